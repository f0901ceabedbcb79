/* The archive walk on any bytes: no crash, no leak, and nothing but files, directories and links that stay inside. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "storage/extract.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct extract_limits l = {
		.max_archive_bytes = 1 << 20, .max_disk_bytes = 4 << 20, .max_cpu_ms = 2000, .max_bytes = 1 << 20, .max_file_bytes = 1 << 20, .max_entries = 100, .max_ratio = 200, .max_depth = 16,
		.max_name_bytes = 512, .max_memory_bytes = 256 << 20, .timeout_ms = 2000,
	};
	struct extract_result r = {0};
	struct err e = {0};
	char dir[128];
	int fd = memfd_create("archive", MFD_CLOEXEC), dir_fd = -1, rc;

	if (fd < 0 || file_write_all(fd, data, len, NULL) != 0 || file_temp_dir("fuzz", dir, sizeof(dir), NULL) != 0)
		abort();
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = extract_walk(fd, dir_fd, &l, NULL, &r, &e);
	if (rc != 0 && (e.code != rc || e.msg[0] == '\0'))
		abort();
	if (rc == 0 && (r.bytes > l.max_bytes || r.entries > l.max_entries))
		abort();
	close(dir_fd);
	close(fd);
	if (file_remove_tree(AT_FDCWD, dir, NULL) != 0)
		abort();
	return 0;
}
