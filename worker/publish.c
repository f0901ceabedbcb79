/* The last stage: what a run has found goes to the results bucket, file by file, the manifest last. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/glob.h"
#include "base/mem.h"
#include "base/num.h"
#include "worker/beneath.h"
#include "worker/job_parts.h"
#include "worker/report.h"

#define ARTIFACT_NAME_MAX 900 /* leaves room for the rest of its key */
#define DEPTH_MAX 32
#define ENTRIES_MAX 200000 /* looked at below ${OUT} */
#define LIST_MAX_BYTES (5 << 19) /* of the manifest's list of artifacts: who reads it takes 4 MiB, and there is more in it */
#define LIST_LINE_BYTES 128      /* of a file in that list, beside its name */

struct publishing {
	struct job *job;
	json_t *files;      /* of the manifest */
	/* Artifacts. */
	char **names;
	size_t n_names;
	size_t list_bytes;  /* of their lines in the manifest */
	size_t entries;
	size_t left_out;    /* … and folders that could not be looked into */
	int64_t bytes;
};

/* A file that is read while it is sent; its digest is taken on the way. */
struct sending {
	int fd;
	int64_t at;
	int64_t end; /* what was there when the sending began: a tool that outlived its run cannot make it longer */
	struct sha256 *digest;
};

static long
read_file(void *arg, void *out, size_t len, struct err *e)
{
	struct sending *s = arg;
	ssize_t n;

	if ((int64_t)len > s->end - s->at)
		len = (size_t)(s->end - s->at);
	do
		n = pread(s->fd, out, len, s->at);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_set(e, ERR_IO, "read: %s", strerror(errno));
	if (n == 0 && s->at < s->end)
		return err_set(e, ERR_IO, "the file became shorter while it was sent");
	sha256_add(s->digest, out, (size_t)n);
	s->at += n;
	return n;
}

static void
list_file(struct publishing *p, const char *name, int64_t size, struct sha256 *digest, char hex[SHA256_HEX_LEN])
{
	uint8_t raw[SHA256_LEN];

	sha256_end(digest, raw);
	hex_encode(raw, sizeof(raw), hex);
	json_array_append_new(p->files, json_pack("{s:s, s:I, s:s}", "name", name, "size_bytes", (json_int_t)size, "sha256", hex));
}

/* Sends an open file from its start to `end`. */
static int
put_fd(struct publishing *p, const char *name, const char *type, int fd, int64_t end, struct err *e)
{
	struct job *j = p->job;
	struct sending s = {.fd = fd, .end = end, .digest = sha256_new()};
	struct object_source src = {.read = read_file, .arg = &s, .size_bytes = end};
	struct put_options o = {.content_type = type};
	struct object_info info;
	char key[LEASE_KEY_MAX], hex[SHA256_HEX_LEN];
	int rc = store_put(j->worker->store, j->worker->config.store.results,
	    key_result(j->terms.run, (unsigned)j->terms.attempt, name, key, sizeof(key)), &src, &o, &info, &j->stop, e);

	if (rc != 0)
		sha256_free(s.digest);
	else
		list_file(p, name, end, s.digest, hex);
	return rc != 0 ? err_prefix(e, rc, "%s", name) : 0;
}

/* Sends JSON; frees it. digest_hex may be NULL. */
static int
put_json(struct publishing *p, const char *name, const char *type, json_t *value, char *digest_hex, struct err *e)
{
	struct job *j = p->job;
	struct put_options o = {.content_type = type};
	char key[LEASE_KEY_MAX], hex[SHA256_HEX_LEN], *text = json_dumps(value, JSON_COMPACT);
	struct sha256 *digest = sha256_new();
	size_t len;
	int rc;

	json_decref(value);
	if (text == NULL) {
		sha256_free(digest);
		return err_set(e, ERR_INVALID, "%s holds text that is not UTF-8", name);
	}
	len = strlen(text);
	sha256_add(digest, text, len);
	rc = store_put_bytes(j->worker->store, j->worker->config.store.results,
	    key_result(j->terms.run, (unsigned)j->terms.attempt, name, key, sizeof(key)), text, len, &o, &j->stop, e);
	list_file(p, name, (int64_t)len, digest, digest_hex != NULL ? digest_hex : hex);
	free(text);
	return rc != 0 ? err_prefix(e, rc, "%s", name) : 0;
}

/* --- artifacts --- */

static bool
wanted(const struct publishing *p, const char *path)
{
	for (char **g = p->job->workflow->artifacts; g != NULL && *g != NULL; g++) {
		if (glob_match(*g, path))
			return true;
	}
	return false;
}

/* What a file takes in the manifest's list. */
static size_t
line_bytes(const char *path)
{
	size_t n = LIST_LINE_BYTES;

	for (; *path != '\0'; path++)
		n += (unsigned char)*path < 0x20 ? strlen("\\u0001") : *path == '"' || *path == '\\' ? 2 : 1;
	return n;
}

static void
take_name(struct publishing *p, const char *path)
{
	size_t line = line_bytes(path);
	char key[LEASE_KEY_MAX], name[ARTIFACT_NAME_MAX + 16];

	if (!wanted(p, path))
		return;
	(void)snprintf(name, sizeof(name), RESULT_ARTIFACTS "%s", path);
	key_result(p->job->terms.run, (unsigned)p->job->terms.attempt, name, key, sizeof(key));
	if ((int64_t)p->n_names >= p->job->worker->config.artifacts_max || line > LIST_MAX_BYTES - p->list_bytes || !store_key_valid(key)) {
		p->left_out++;
		return;
	}
	p->list_bytes += line;
	p->names = xrealloc(p->names, (p->n_names + 1) * sizeof(*p->names));
	p->names[p->n_names++] = xstrdup(path);
}

/* Walks one directory (closes fd, -1: it cannot be opened); path is its name below ${OUT} with a slash, or "". */
static void
walk(struct publishing *p, int fd, const char *path, int depth)
{
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *ent;

	if (d == NULL) {
		p->left_out++;
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((ent = readdir(d)) != NULL && p->entries++ < ENTRIES_MAX) {
		char below[ARTIFACT_NAME_MAX + 2];
		struct stat st;
		int n, sub;

		if (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0)
			continue;
		n = snprintf(below, sizeof(below) - 1, "%s%s", path, ent->d_name);
		if (n >= ARTIFACT_NAME_MAX || fstatat(dirfd(d), ent->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		if (S_ISREG(st.st_mode))
			take_name(p, below);
		if (!S_ISDIR(st.st_mode) || depth == DEPTH_MAX)
			continue;
		sub = openat(dirfd(d), ent->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		below[n] = '/';
		below[n + 1] = '\0';
		walk(p, sub, below, depth + 1);
	}
	(void)closedir(d);
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int
put_artifact(struct publishing *p, int out_fd, const char *path, struct err *e)
{
	int fd = beneath_open_file(out_fd, path), rc = 0;
	char name[ARTIFACT_NAME_MAX + 16];
	struct stat st;

	if (fd < 0)
		return 0; /* went away, or was never what it seemed */
	(void)snprintf(name, sizeof(name), RESULT_ARTIFACTS "%s", path);
	if (fstat(fd, &st) != 0 || st.st_size > p->job->worker->config.artifacts_max_bytes - p->bytes)
		p->left_out++;
	else if ((rc = put_fd(p, name, "application/octet-stream", fd, st.st_size, e)) == 0)
		p->bytes += st.st_size;
	close(fd);
	if (rc != ERR_INVALID)
		return rc;
	p->left_out++; /* servers have rules of their own for names; the next attempt would meet the same */
	return 0;
}

static int
put_artifacts(struct publishing *p, struct err *e)
{
	struct job *j = p->job;
	int rc = 0, fd;

	if (!j->has_ws || j->workflow == NULL || j->workflow->artifacts == NULL || j->workflow->artifacts[0] == NULL)
		return 0;
	fd = open(j->ws.out, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, ERR_IO, "%s: %s", j->ws.out, strerror(errno));
	walk(p, fcntl(fd, F_DUPFD_CLOEXEC, 0), "", 0);
	if (p->n_names > 0)
		qsort(p->names, p->n_names, sizeof(*p->names), by_name);
	for (size_t i = 0; rc == 0 && i < p->n_names; i++)
		rc = put_artifact(p, fd, p->names[i], e);
	close(fd);
	if (p->left_out > 0)
		run_log_say(j->log, "%zu artifacts were left out: over ARTIFACTS_MAX or ARTIFACTS_MAX_SIZE, with names that no store takes or "
		    "that are too long for one list, or in folders that cannot be opened", p->left_out);
	if (p->entries > ENTRIES_MAX)
		run_log_say(j->log, "artifacts were looked for among the first %d names in ${OUT} alone", ENTRIES_MAX);
	return rc;
}

/* --- the rest --- */

static json_t *
summary(struct job *j)
{
	char began[CLOCK_TEXT_LEN], ended[CLOCK_TEXT_LEN];

	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:{s:s, s:s, s:s}, s:O, s:s, s:s, s:s, s:b, s:o, s:o, s:o, s:s, s:s, s:s, s:s}", "run",
	    j->terms.run, "fence", j->terms.fence, "workflow", j->terms.workflow, "workflow_version", j->terms.workflow_version, "attempt",
	    (json_int_t)j->terms.attempt, "target", "id", j->terms.target_id, "name", j->terms.target_name, "sha256", j->terms.target.sha256,
	    "params", j->terms.params, "outcome", report_outcome(j), "fail_class", fail_class_word(j->fail), "reason", j->reason, "partial",
	    j->partial, "findings", report_findings(j), "steps", job_steps_json(j), "sandbox", report_sandbox(j), "worker",
	    j->worker->id, "node", j->worker->node, "started_at", clock_text(j->started_real_ms, began), "finished_at",
	    clock_text(clock_real_ms(), ended));
}

static int
put_log(struct publishing *p, struct err *e)
{
	return put_fd(p, RESULT_LOG, "text/plain; charset=utf-8", run_log_fd(p->job->log), run_log_size(p->job->log), e);
}

static int
put_manifest(struct publishing *p, struct err *e)
{
	struct job *j = p->job;
	json_t *manifest = summary(j);

	if (manifest == NULL)
		return err_set(e, ERR_INVALID, "the summary of the run is not UTF-8");
	json_object_set(manifest, "files", p->files);
	return put_json(p, RESULT_MANIFEST, "application/json", manifest, j->manifest_sha256, e);
}

int
job_publish(struct job *j, struct err *e)
{
	struct publishing p = {.job = j, .files = json_array()};
	int rc = put_artifacts(&p, e);

	fault_point("worker.publish");
	if (rc == 0 && j->sarif != NULL)
		rc = put_json(&p, RESULT_SARIF, "application/sarif+json", json_incref(j->sarif), NULL, e);
	if (rc == 0)
		rc = put_log(&p, e);
	fault_point("worker.before_manifest");
	if (rc == 0 && j->stop)
		rc = ERR_CANCELED;
	if (rc == 0)
		rc = put_manifest(&p, e);
	if (rc != 0)
		j->manifest_sha256[0] = '\0';
	for (size_t i = 0; i < p.n_names; i++)
		free(p.names[i]);
	free(p.names);
	json_decref(p.files);
	return rc;
}
