/* drover logs, findings, artifacts: what runs leave behind. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/retry.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/render.h"
#include "cli/results.h"
#include "cli/text.h"
#include "net/http_client.h"
#include "storage/object_store.h"

#define ATTEMPT_MAX 1000000
#define LOG_PIECE_MAX (4 * 1024 * 1024)
#define LIMIT_MAX 1000000
#define NAME_BYTES_MAX 1024

/* --- logs --- */

struct log_out {
	bool escape;       /* stdout is a terminal */
	int64_t offset;    /* bytes that came */
	char held[4];      /* the begun UTF-8 character of the last piece */
	size_t n_held;
	struct buf joined; /* held and the new piece */
	struct buf safe;
};

static int
write_log(void *arg, const void *data, size_t len)
{
	struct log_out *o = arg;
	size_t taken;

	o->offset += (int64_t)len;
	if (!o->escape)
		return fwrite(data, 1, len, stdout) == len && fflush(stdout) == 0 ? 0 : ERR_IO;
	buf_clear(&o->joined);
	buf_clear(&o->safe);
	if (buf_add(&o->joined, o->held, o->n_held) != 0 || buf_add(&o->joined, data, len) != 0)
		return ERR_TOOBIG;
	taken = text_add_safe(&o->safe, o->joined.data, o->joined.len, true, false);
	o->n_held = o->joined.len - taken;
	memcpy(o->held, o->joined.data + taken, o->n_held);
	fputs(buf_str(&o->safe), stdout);
	return fflush(stdout) == 0 ? 0 : ERR_IO;
}

/* One request; with follow it lasts until the run ends or the dispatcher goes away. */
static int
fetch_log(struct cli *c, struct log_out *o, bool follow, struct err *e)
{
	struct buf path = buf_make(4096);
	char offset[24];
	struct api_call call = {.method = "GET", .write_fn = write_log, .arg = o, .wanted = "X-Drover-Log-Offset"};
	int64_t asked = o->offset, first;
	int rc;

	(void)api_path(&path, "/v1/run/", c->args.words[0], "/logs");
	snprintf(offset, sizeof(offset), "%lld", (long long)asked);
	api_query(&path, "offset", asked > 0 ? offset : NULL);
	api_query(&path, "follow", follow ? "true" : NULL);
	api_query(&path, "attempt", args_value(&c->args, "attempt"));
	call.path = buf_str(&path);
	rc = api_do(c->api, &call, e);
	if (num_int(call.header, asked, INT64_MAX, &first, NULL) == 0 && first > asked) {
		fprintf(stderr, "(%lld bytes before this are not kept any more)\n", (long long)(first - asked));
		o->offset += first - asked;
	}
	buf_release(&path);
	return rc;
}

int
cmd_logs(struct cli *c)
{
	static const struct retry_policy policy = {.max_attempts = RETRY_MAX_ATTEMPTS, .base_ms = 250, .cap_ms = 5000};
	struct log_out o = {.escape = c->term.out_tty, .joined = buf_make(LOG_PIECE_MAX), .safe = buf_make(LOG_PIECE_MAX * 8)};
	bool follow = args_has(&c->args, "f");
	struct err e = {0};
	int64_t attempt = 0;
	uint32_t failures = 0;
	uint64_t random;
	int rc = args_int(&c->args, "attempt", 1, ATTEMPT_MAX, &attempt, &e);

	if (rc == 0)
		rc = cli_connect(c, &e);
	while (rc == 0) {
		int64_t before = o.offset;

		rc = fetch_log(c, &o, follow, &e);
		if (!follow || interrupted() || ferror(stdout) || !api_may_pass(rc))
			break;
		/* A follower outlives a restart of the dispatcher. */
		failures = o.offset > before ? 1 : failures + 1;
		if (failures == 1)
			fprintf(stderr, "(the log broke off, trying again)\n");
		if (failures >= RETRY_MAX_ATTEMPTS)
			break;
		random_bytes(&random, sizeof(random));
		(void)interrupt_wait(retry_next(&policy, failures, 0, random), -1);
		rc = 0;
	}
	if (rc == 0 && o.offset == 0 && !interrupted())
		fprintf(stderr, "Nothing is logged.\n");
	buf_release(&o.joined);
	buf_release(&o.safe);
	return rc == 0 && !interrupted() ? EXIT_FINE : cli_fail(&e);
}

/* --- findings --- */

int
cmd_findings(struct cli *c)
{
	const char *id = c->args.words[0], *path = args_value(&c->args, "sarif"), *severity = args_value(&c->args, "severity");
	struct buf raw = buf_make(FINDINGS_BYTES_MAX);
	struct findings found = {0};
	enum fail_on least = FAIL_ON_INFO;
	json_t *sarif = NULL;
	struct err e = {0};
	int64_t limit = 0;
	char text[200];
	int rc = args_int(&c->args, "limit", 0, LIMIT_MAX, &limit, &e);

	if (rc == 0 && severity != NULL && (rc = fail_on_parse(severity, &least, &e)) != 0)
		(void)err_prefix(&e, rc, "-severity");
	else if (rc == 0 && severity != NULL && least == FAIL_ON_NONE)
		rc = err_set(&e, ERR_INVALID, "-severity: error, warning, note or info");
	if (rc == 0 && path != NULL)
		rc = results_may_save(path, &e);
	if (rc == 0)
		rc = cli_connect(c, &e);
	if (rc == 0)
		rc = results_findings(c, id, &raw, &sarif, &e);
	if (rc == 0)
		rc = findings_read(sarif, &found, &e);
	if (rc == 0 && path != NULL)
		rc = results_save(path, &raw, &e);
	if (rc == 0 && path == NULL && c->settings.json) {
		cli_print_json(sarif);
	} else if (rc == 0 && path == NULL) {
		results_print(c, &found, least, limit);
		printf("\n%s%s\n", level_counts_text(&found.counts, text, sizeof(text)),
		    found.failed_runs > 0 ? " (incomplete: a tool failed)" : "");
	}
	findings_release(&found);
	json_decref(sarif);
	buf_release(&raw);
	return rc == 0 ? EXIT_FINE : cli_fail(&e);
}

/* --- artifacts --- */

struct fetch {
	int fd;
	struct sha256 *digest;
	int64_t bytes;
	struct err err;
};

static int
write_artifact(void *arg, const void *data, size_t len)
{
	struct fetch *f = arg;

	sha256_add(f->digest, data, len);
	f->bytes += (int64_t)len;
	return file_write_all(f->fd, data, len, &f->err);
}

/* A name from a server as a path below dir, its folders made; refused where it would leave it. */
static int
artifact_path(const char *dir, const char *name, char out[PATH_MAX], struct err *e)
{
	char folder[PATH_MAX];
	int rc;

	if (!store_key_valid(name) || strlen(name) > NAME_BYTES_MAX)
		return err_set(e, ERR_PROTO, "the artifact's name cannot be a file name here: %.100s", name);
	if ((rc = file_join(out, PATH_MAX, dir, name, e)) != 0)
		return rc;
	snprintf(folder, sizeof(folder), "%s", out);
	return file_mkdirs(dirname(folder), 0755, e);
}

static int
check_artifact(const json_t *artifact, struct fetch *f, struct err *e)
{
	uint8_t hash[SHA256_LEN];
	char hex[SHA256_HEX_LEN];

	sha256_end(f->digest, hash);
	f->digest = NULL;
	hex_encode(hash, SHA256_LEN, hex);
	if (f->bytes != json_number(artifact, "size_bytes") || strcmp(hex, json_text(artifact, "sha256")) != 0)
		return err_set(e, ERR_IO, "what came is not what the run recorded (%lld bytes)", (long long)f->bytes);
	return 0;
}

/* Fetches into a file beside the final name, which appears only once its digest is right. */
static int
fetch_artifact(struct cli *c, const json_t *artifact, const char *dir, struct err *e)
{
	const char *name = json_text(artifact, "name");
	struct buf path = buf_make(8192);
	char out[PATH_MAX], part[PATH_MAX + 8];
	struct fetch f = {.fd = -1, .digest = sha256_new()};
	struct api_call call = {.method = "GET", .write_fn = write_artifact, .arg = &f};
	int rc = artifact_path(dir, name, out, e);

	if (rc != 0)
		goto out;
	snprintf(part, sizeof(part), "%s.part", out);
	/* O_EXCL: a link that lies there is never followed. */
	f.fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (f.fd < 0) {
		rc = err_set(e, ERR_IO, "%.200s: %s", part, strerror(errno));
		goto out;
	}
	(void)api_path(&path, "/v1/run/", c->args.words[0], "/artifact/");
	(void)http_encode(&path, name, true);
	call.path = buf_str(&path);
	rc = api_do(c->api, &call, e);
	if (rc != 0 && f.err.code != 0)
		*e = f.err;
	if (rc == 0)
		rc = check_artifact(artifact, &f, e);
	if (rc == 0 && rename(part, out) != 0)
		rc = err_set(e, ERR_IO, "%.200s: %s", out, strerror(errno));
	if (rc != 0)
		(void)unlink(part);
out:
	if (f.fd >= 0)
		close(f.fd);
	sha256_free(f.digest);
	buf_release(&path);
	return rc;
}

static const json_t *
find_artifact(const json_t *list, const char *name)
{
	size_t i;
	json_t *a;

	json_array_foreach(list, i, a)
	{
		if (strcmp(json_text(a, "name"), name) == 0)
			return a;
	}
	return NULL;
}

static int
fetch_named(struct cli *c, const json_t *list, const char *dir)
{
	struct err e = {0};
	int code = EXIT_FINE;

	for (int i = 1; i < c->args.n_words && !interrupted(); i++) {
		const json_t *a = find_artifact(list, c->args.words[i]);

		e = (struct err){0};
		if (a == NULL) {
			(void)err_set(&e, ERR_NOTFOUND, "the run has no artifact '%.200s'", c->args.words[i]);
			(void)err_hint(&e, "drover artifacts %.100s lists them", c->args.words[0]);
			code = cli_fail(&e);
		} else if (fetch_artifact(c, a, dir, &e) != 0) {
			code = cli_fail(&e);
		}
	}
	return code;
}

static int
fetch_all(struct cli *c, const json_t *list, const char *dir)
{
	struct err e = {0};
	size_t i;
	json_t *a;

	json_array_foreach(list, i, a)
	{
		if (fetch_artifact(c, a, dir, &e) != 0)
			return cli_fail(&e);
	}
	fprintf(stderr, "%zu artifacts in %s\n", json_array_size(list), dir);
	return EXIT_FINE;
}

static void
print_artifacts(struct cli *c, const json_t *list)
{
	static const struct column columns[] = {{"NAME", TABLE_SHRINK, NULL}, {"SIZE", TABLE_RIGHT, NULL},
		{"SHA256", TABLE_SHRINK, NULL}};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	size_t i;
	json_t *a;

	json_array_foreach(list, i, a)
	{
		char size[32];

		table_add(t, (const char *const[]){json_text(a, "name"),
		    num_format_size(json_number(a, "size_bytes"), size, sizeof(size)), json_text(a, "sha256")});
	}
	cli_print_table(c, t, "No artifacts.");
}

int
cmd_artifacts(struct cli *c)
{
	const char *dir = args_value(&c->args, "o");
	bool all = args_has(&c->args, "all") || (dir != NULL && c->args.n_words == 1);
	struct buf path = buf_make(4096);
	json_t *answer = NULL;
	const json_t *list;
	struct err e = {0};
	int rc = cli_connect(c, &e), code = EXIT_FINE;

	if (rc == 0)
		rc = api_get(c->api, api_path(&path, "/v1/run/", c->args.words[0], "/artifacts"), &answer, &e);
	list = json_object_get(answer, "artifacts");
	if (rc == 0 && !json_is_array(list))
		rc = err_set(&e, ERR_PROTO, "the answer holds no list of artifacts");
	if (rc != 0)
		code = cli_fail(&e);
	else if (all)
		code = fetch_all(c, list, dir != NULL ? dir : ".");
	else if (c->args.n_words > 1)
		code = fetch_named(c, list, dir != NULL ? dir : ".");
	else if (c->settings.json)
		cli_print_json(answer);
	else
		print_artifacts(c, list);
	json_decref(answer);
	buf_release(&path);
	return code;
}
