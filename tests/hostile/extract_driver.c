/* extract_driver ARCHIVE DIR [NAME=VALUE...] - unpacks as the worker does and prints the verdict as one JSON line.
 *
 * NAME is a field of struct extract_limits without "max_" or "min_" (bytes, entries, …). Exit status 0 whenever there is a verdict.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/num.h"
#include "storage/extract.h"

static int
take_limit(const char *arg, struct extract_limits *l)
{
	const struct {
		const char *name;
		int64_t *value;
	} rows[] = {
		{"archive_bytes=", &l->max_archive_bytes}, {"bytes=", &l->max_bytes}, {"disk_bytes=", &l->max_disk_bytes},
		{"file_bytes=", &l->max_file_bytes}, {"entries=", &l->max_entries}, {"ratio=", &l->max_ratio},
		{"depth=", &l->max_depth}, {"name_bytes=", &l->max_name_bytes}, {"memory_bytes=", &l->max_memory_bytes},
		{"cpu_ms=", &l->max_cpu_ms}, {"timeout_ms=", &l->timeout_ms}, {"free_bytes=", &l->min_free_bytes},
		{"free_inodes=", &l->min_free_inodes},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t n = strlen(rows[i].name);

		if (strncmp(arg, rows[i].name, n) == 0)
			return num_int(arg + n, 1, INT64_MAX, rows[i].value, NULL);
	}
	return ERR_INVALID;
}

static void
print_text(const char *name, const char *s)
{
	printf(",\"%s\":\"", name);
	for (; *s != '\0'; s++) {
		if (*s == '"' || *s == '\\')
			putchar('\\');
		putchar(*s);
	}
	putchar('"');
}

int
main(int argc, char **argv)
{
	struct extract_limits limits = extract_limits_default();
	struct extract_result r = {0};
	struct err e = {0};
	struct stat st;
	int helper = extract_helper_main(argc, argv), fd, dir_fd, rc;

	if (helper >= 0)
		return helper;
	for (int i = 3; i < argc; i++)
		if (take_limit(argv[i], &limits) != 0)
			argc = 0;
	if (argc < 3) {
		fprintf(stderr, "usage: extract_driver ARCHIVE DIR [NAME=VALUE...]\n");
		return 2;
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	dir_fd = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || dir_fd < 0 || fstat(dir_fd, &st) != 0) {
		perror("extract_driver");
		return 2;
	}
	rc = extract_archive(fd, dir_fd, st.st_uid, st.st_gid, &limits, NULL, NULL, &r, &e);
	printf("{\"code\":\"%s\",\"kind\":\"%s\",\"entries\":%lld,\"bytes\":%lld,\"took_ms\":%lld", err_word(rc),
	    extract_probe(fd) == TARGET_ARCHIVE ? "archive" : "file", (long long)r.entries, (long long)r.bytes,
	    (long long)r.took_ms);
	print_text("msg", e.msg);
	print_text("hint", e.hint);
	printf("}\n");
	return 0;
}
