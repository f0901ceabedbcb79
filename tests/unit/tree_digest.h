/* tree_digest.h - all that can be said of a tree in one digest: names, types, modes, owners, sizes, link counts, times of data and of
 * metadata, attributes, targets of links, bytes. A tool that touched anything and put it back has still moved a time. */
#ifndef TESTS_TREE_DIGEST_H
#define TESTS_TREE_DIGEST_H

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/digest.h"

static void
digest_bytes(struct sha256 *d, int fd)
{
	char block[65536];
	ssize_t n;

	while ((n = read(fd, block, sizeof(block))) > 0)
		sha256_add(d, block, (size_t)n);
	assert(n == 0);
}

static void
digest_entry(struct sha256 *d, const char *path, const char *below, bool all)
{
	char line[1024], attributes[1024], target[4096];
	struct stat st;
	ssize_t n;
	int fd;

	assert(lstat(path, &st) == 0);
	n = llistxattr(path, attributes, sizeof(attributes));
	if (!all)
		snprintf(line, sizeof(line), "%s %o %llu %lld", below, st.st_mode & S_IFMT, (unsigned long long)st.st_ino,
		    (long long)st.st_size);
	else
		snprintf(line, sizeof(line), "%s %o %u %u %llu %llu %lld %lld.%09ld %lld.%09ld %zd", below, st.st_mode, st.st_uid,
		    st.st_gid,
	    (unsigned long long)st.st_nlink, (unsigned long long)st.st_ino, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
	    st.st_mtim.tv_nsec, (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec, n);
	sha256_add(d, line, strlen(line) + 1);
	sha256_add(d, attributes, all && n > 0 ? (size_t)n : 0);
	if (S_ISLNK(st.st_mode)) {
		n = readlink(path, target, sizeof(target));
		sha256_add(d, target, n > 0 ? (size_t)n : 0);
	} else if (S_ISREG(st.st_mode)) {
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd >= 0) { /* what cannot be read is told by its mode */
			digest_bytes(d, fd);
			close(fd);
		}
	}
}

static void
digest_dir(struct sha256 *d, const char *path, size_t root_len, bool all)
{
	struct dirent **names;
	int n = scandir(path, &names, NULL, alphasort);

	for (int i = 0; i < n; i++) {
		char below[4096];
		struct stat st;

		if (strcmp(names[i]->d_name, ".") != 0 && strcmp(names[i]->d_name, "..") != 0) {
			snprintf(below, sizeof(below), "%s/%s", path, names[i]->d_name);
			digest_entry(d, below, below + root_len, all);
			if (lstat(below, &st) == 0 && S_ISDIR(st.st_mode))
				digest_dir(d, below, root_len, all);
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

static inline char *
tree_digest_of(const char *path, bool all, char out[SHA256_HEX_LEN])
{
	struct sha256 *d = sha256_new();
	uint8_t raw[SHA256_LEN];

	digest_entry(d, path, "", all);
	digest_dir(d, path, strlen(path), all);
	sha256_end(d, raw);
	return hex_encode(raw, sizeof(raw), out);
}

/* Of the directory itself and all below; out holds 64 hex digits. */
static inline char *
tree_digest(const char *path, char out[SHA256_HEX_LEN])
{
	return tree_digest_of(path, true, out);
}

/* The same of names, kinds and bytes alone. */
static inline char *
tree_bytes_digest(const char *path, char out[SHA256_HEX_LEN])
{
	return tree_digest_of(path, false, out);
}

#endif
