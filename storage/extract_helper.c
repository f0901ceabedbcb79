/* The helper's side: read what the parent asks from argv, confine, walk, answer on descriptor 1. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/num.h"
#include "storage/extract_parts.h"
#include "storage/extract_wire.h"

#define ARCHIVE_FD 0
#define REPLY_FD 1
#define DIR_FD 3

static int
parse(int argc, char **argv, struct extract_wire_args *a, struct err *e)
{
	int64_t *const fields[] = EXTRACT_WIRE_FIELDS(a);
	const int n = (int)(sizeof(fields) / sizeof(fields[0]));
	int rc = 0;

	if (argc != n + 2)
		return err_set(e, ERR_INVALID, "--extract is started by other parts of Drover, not by people");
	for (int i = 0; i < n && rc == 0; i++)
		rc = num_int(argv[i + 2], 0, INT64_MAX, fields[i], e);
	if (rc == 0 && (a->uid > UINT32_MAX || a->gid > UINT32_MAX))
		rc = err_set(e, ERR_INVALID, "uid or gid is out of bounds");
	return rc;
}

static int
tell(void *arg, int64_t disk_bytes, int64_t entries, struct err *e)
{
	struct extract_wire_reply r = {.magic = EXTRACT_WIRE_MAGIC, .rc = EXTRACT_WIRE_GROWING, .result.entries = entries,
	    .result.disk_bytes = disk_bytes};

	(void)arg;
	return file_write_all(REPLY_FD, &r, sizeof(r), e);
}

int
extract_helper_main(int argc, char **argv)
{
	const struct extract_watch watch = {.grew = tell};
	struct extract_wire_args a = {0};
	struct extract_wire_reply r = {.magic = EXTRACT_WIRE_MAGIC};

	if (argc < 2 || strcmp(argv[1], EXTRACT_WIRE_FLAG) != 0)
		return -1;
	/* A full file is an error of a write, not a death; so is a parent that no longer reads. */
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	r.rc = parse(argc, argv, &a, &r.err);
	if (r.rc == 0)
		r.rc = r.guards = extract_confine(DIR_FD, (uint32_t)a.uid, (uint32_t)a.gid, &a.limits, &r.err);
	fault_point("extract.confined");
	if (r.rc >= 0)
		r.rc = extract_walk(ARCHIVE_FD, DIR_FD, &a.limits, &watch, &r.result, &r.err);
	fault_point("extract.walked");
	/* Not exit(): what runs there (a sanitizer's leak check) may need calls that were given up. */
	_exit(file_write_all(REPLY_FD, &r, sizeof(r), NULL) == 0 ? 0 : 1);
}
