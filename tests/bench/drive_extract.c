/* drive_extract ARCHIVE DIR: unpacks into the empty directory as a worker does, by the confined helper, with the default limits. As
 * root the files become those of the directory's owner. Exit status 0 when the whole tree is there.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "storage/extract.h"

int
main(int argc, char **argv)
{
	const struct extract_limits limits = extract_limits_default();
	struct extract_result r;
	struct err e = {0};
	struct stat st;
	int fd, dir_fd, rc = extract_helper_main(argc, argv);

	if (rc >= 0)
		return rc;
	if (argc != 3) {
		fprintf(stderr, "usage: drive_extract ARCHIVE DIR\n");
		return 2;
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	dir_fd = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || dir_fd < 0 || fstat(dir_fd, &st) != 0) {
		fprintf(stderr, "drive_extract: %s\n", strerror(errno));
		return 1;
	}
	if (extract_archive(fd, dir_fd, st.st_uid, st.st_gid, &limits, NULL, NULL, &r, &e) != 0) {
		fprintf(stderr, "drive_extract: %s\n", e.msg);
		return 1;
	}
	printf("%lld entries, %lld bytes\n", (long long)r.entries, (long long)r.bytes);
	return 0;
}
