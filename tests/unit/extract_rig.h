/* extract_rig.h - archives made byte by byte, and a directory to unpack them into; tests/hostile has the long list of hostile ones. */
#ifndef TESTS_UNIT_EXTRACT_RIG_H
#define TESTS_UNIT_EXTRACT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "storage/extract.h"
#include "tests/unit/tar_header.h"

#define PLACE_UID 12345 /* of the helper, where we are root */

struct place {
	char dir[64];
	int dir_fd;
	struct buf tar;
};

static inline void
tar_entry(struct place *p, const char *name, char type, const char *link, const char *data, unsigned mode)
{
	char h[TAR_BLOCK] = {0};
	unsigned len = data != NULL ? (unsigned)strlen(data) & 0777 : 0;

	tar_header(h, name, type, link != NULL ? link : "", mode, len);
	assert_int_equal(buf_add(&p->tar, h, sizeof(h)), 0);
	if (len > 0) {
		memset(h, 0, sizeof(h));
		memcpy(h, data, len);
		assert_int_equal(buf_add(&p->tar, h, sizeof(h)), 0);
	}
}

static inline void
tar_end(struct place *p)
{
	static const char zeros[1024];

	assert_int_equal(buf_add(&p->tar, zeros, sizeof(zeros)), 0);
}

static inline int
unpack_watched(struct place *p, const struct extract_limits *l, const struct extract_watch *watch, const atomic_bool *stop,
    struct extract_result *r, struct err *e)
{
	struct extract_limits limits = l != NULL ? *l : extract_limits_default();
	int fd = memfd_create("archive", MFD_CLOEXEC), rc;

	*e = (struct err){0};
	assert_int_equal(file_write_all(fd, p->tar.data, p->tar.len, NULL), 0);
	rc = extract_archive(fd, p->dir_fd, PLACE_UID, PLACE_UID, &limits, watch, stop, r, e);
	close(fd);
	return rc;
}

static inline int
unpack(struct place *p, const struct extract_limits *l, const atomic_bool *stop, struct extract_result *r, struct err *e)
{
	return unpack_watched(p, l, NULL, stop, r, e);
}

static inline int
place_setup(void **state)
{
	struct place *p = xcalloc(1, sizeof(*p));
	char root[sizeof(p->dir) + 8];

	p->tar = buf_make(80 << 20);
	if (file_temp_dir("extract", p->dir, sizeof(p->dir), NULL) != 0)
		return -1;
	/* In one that is ours: what gets above it is not in anybody's way. */
	if (snprintf(root, sizeof(root), "%s/root", p->dir) >= (int)sizeof(root) || chmod(p->dir, 0755) != 0 || mkdir(root, 0755) != 0)
		return -1;
	p->dir_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (geteuid() == 0 && fchown(p->dir_fd, PLACE_UID, PLACE_UID) != 0)
		return -1;
	*state = p;
	return 0;
}

static inline int
place_teardown(void **state)
{
	struct place *p = *state;

	close(p->dir_fd);
	(void)file_remove_tree(AT_FDCWD, p->dir, NULL);
	buf_release(&p->tar);
	free(p);
	return 0;
}

#endif
