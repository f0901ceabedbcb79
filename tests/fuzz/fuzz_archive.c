/* The archive walk on any bytes, tar and zip by what they begin with, through every filter: no crash, no leak, limits kept, and
 * nothing in the tree but files, directories and links that stay inside. */
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "storage/extract.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	umask(0); /* as the helper has it */
	return access("/dev/shm", W_OK) == 0 ? setenv("TMPDIR", "/dev/shm", 0) : 0;
}

/* A link that leads to something leads below the root. */
static void
check_link(const char *root, const char *path)
{
	char target[PATH_MAX], real[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	size_t root_len = strlen(root);

	if (n <= 0 || target[0] == '/')
		abort();
	if (realpath(path, real) != NULL && (strncmp(real, root, root_len) != 0 || (real[root_len] != '/' && real[root_len] != '\0')))
		abort();
}

/* Returns how many entries the tree has. */
static int64_t
check_tree(const char *root)
{
	char path[PATH_MAX];
	char *const tops[] = {path, NULL};
	int64_t n = 0;
	FTS *fts;
	FTSENT *f;

	if (realpath(root, path) == NULL || (fts = fts_open(tops, FTS_PHYSICAL | FTS_NOCHDIR, NULL)) == NULL)
		abort();
	while ((f = fts_read(fts)) != NULL) {
		if (f->fts_level == 0 || f->fts_info == FTS_DP)
			continue;
		n++;
		if (f->fts_info == FTS_D ? (f->fts_statp->st_mode & 07777) != 0755 : f->fts_info == FTS_F ?
		    (f->fts_statp->st_mode & 07666) != 0644 : f->fts_info != FTS_SL && f->fts_info != FTS_SLNONE)
			abort();
		if (f->fts_info == FTS_SL || f->fts_info == FTS_SLNONE)
			check_link(path, f->fts_path);
	}
	fts_close(fts);
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct extract_limits l = {
		.max_archive_bytes = 1 << 20, .max_bytes = 1 << 20, .max_disk_bytes = 4 << 20, .max_file_bytes = 1 << 20,
		.max_entries = 100, .max_ratio = 200, .max_depth = 16, .max_name_bytes = 512, .max_memory_bytes = 256 << 20,
		.max_cpu_ms = 2000, .timeout_ms = 2000,
	};
	struct extract_result r = {0};
	struct err e = {0};
	char dir[128];
	int fd = memfd_create("archive", MFD_CLOEXEC), dir_fd = -1, rc;
	int64_t n;

	if (fd < 0 || file_write_all(fd, data, len, NULL) != 0 || file_temp_dir("fuzz", dir, sizeof(dir), NULL) != 0)
		abort();
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = extract_walk(fd, dir_fd, &l, NULL, &r, &e);
	n = check_tree(dir);
	if (rc != 0 && (e.code != rc || e.msg[0] == '\0' || e.hint[0] == '\0'))
		abort();
	if (rc == 0 && (r.bytes > l.max_bytes || r.entries > l.max_entries || r.disk_bytes > l.max_disk_bytes || n > r.entries))
		abort();
	close(dir_fd);
	close(fd);
	if (file_remove_tree(AT_FDCWD, dir, NULL) != 0)
		abort();
	return 0;
}
