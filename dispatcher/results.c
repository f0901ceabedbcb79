#include "dispatcher/results.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/mem.h"
#include "base/num.h"
#include "dispatcher/pipe.h"
#include "dispatcher/query.h"
#include "dispatcher/retention.h"

#define RING_BYTES (256 * 1024)
#define PIECE_BYTES (64 * 1024)
#define KEY_TEXT_MAX 1200

/* --- an object streamed to the client --- */

struct download {
	struct dispatcher *d;
	struct http_req *r;     /* NULL: the client is gone, or the answer is complete */
	const char *bucket;
	char key[KEY_TEXT_MAX], content_type[64], missing[160];
	int64_t offset;         /* of the first byte to send */
	struct object_info info;
	struct pipe *pipe;
	char *piece;            /* that the client's queue refused, to be offered again */
	size_t piece_len;
	atomic_bool stop;
	int rc;
	struct err err;
	bool over;              /* the thread is done */
};

static void
download_free(struct download *w)
{
	pipe_free(w->pipe);
	free(w->piece);
	free(w);
}

/* Moves what is there towards the client. */
static void
download_pump(struct download *w)
{
	bool end = false;

	while (w->r != NULL && !end) {
		if (w->piece_len == 0)
			w->piece_len = pipe_read(w->pipe, w->piece, PIECE_BYTES, &end);
		if (w->piece_len == 0)
			break;
		if (http_stream_write(w->r, w->piece, w->piece_len) != 0)
			return; /* full: on_room goes on */
		w->piece_len = 0;
	}
	if (!end || !w->over || w->r == NULL)
		return;
	http_on_gone(w->r, NULL, NULL);
	http_stream_end(w->r); /* after a failure midway the length tells the client that bytes are missing */
	w->r = NULL;
	download_free(w);
}

static void
download_room(struct http_req *r, void *arg)
{
	(void)r;
	download_pump(arg);
}

static void
download_gone(void *arg)
{
	struct download *w = arg;

	w->r = NULL;
	atomic_store(&w->stop, true);
	pipe_break(w->pipe);
	if (w->over)
		download_free(w);
}

static void
download_more(void *arg)
{
	download_pump(arg);
}

static int
download_write(void *arg, const void *data, size_t len)
{
	struct download *w = arg;

	/* Small pieces, each announced: the loop must hear of bytes while this thread waits for room. */
	while (len > 0) {
		size_t n = len < PIECE_BYTES ? len : PIECE_BYTES;

		if (!pipe_write_wait(w->pipe, data, n))
			return ERR_CANCELED;
		loop_post(w->d->loop, download_more, w);
		data = (const char *)data + n;
		len -= n;
	}
	return 0;
}

static void
body_run(void *arg)
{
	struct download *w = arg;

	w->rc = store_get(w->d->store, w->bucket, w->key, w->offset, -1, w->info.etag, download_write, w, NULL, &w->stop, &w->err);
	pipe_close(w->pipe);
}

static void
body_done(void *arg, bool began)
{
	struct download *w = arg;

	if (!began)
		pipe_close(w->pipe);
	w->over = true;
	if (w->r == NULL)
		download_free(w);
	else
		download_pump(w);
}

static void
head_run(void *arg)
{
	struct download *w = arg;

	w->rc = store_head(w->d->brief, w->bucket, w->key, &w->info, &w->err);
}

static void
head_done(void *arg, bool began)
{
	struct download *w = arg;

	if (!began)
		w->rc = err_set(&w->err, ERR_RETRY, "the dispatcher is stopping");
	if (w->rc == ERR_NOTFOUND)
		err_set(&w->err, ERR_NOTFOUND, "%s", w->missing);
	if (w->r == NULL) {
		download_free(w);
		return;
	}
	if (w->rc != 0) {
		http_on_gone(w->r, NULL, NULL);
		http_reply_err(w->r, &w->err);
		download_free(w);
		return;
	}
	if (w->offset > w->info.size_bytes)
		w->offset = w->info.size_bytes;
	http_stream_begin(w->r, 200, w->content_type, w->info.size_bytes - w->offset, NULL, download_room, w);
	work_submit(w->d->downloads, body_run, body_done, w);
}

void
results_stream(struct call *c, const char *bucket, const char *key, const char *content_type, int64_t offset,
    const char *missing)
{
	struct download *w = xcalloc(1, sizeof(*w));

	w->d = c->d;
	w->r = c->r;
	w->bucket = bucket;
	w->offset = offset;
	snprintf(w->key, sizeof(w->key), "%s", key);
	snprintf(w->content_type, sizeof(w->content_type), "%s", content_type);
	snprintf(w->missing, sizeof(w->missing), "%s", missing);
	w->pipe = pipe_new(RING_BYTES);
	w->piece = xmalloc(PIECE_BYTES);
	call_end(c);
	http_on_gone(w->r, download_gone, w);
	work_submit(w->d->stores, head_run, head_done, w);
}

/* --- findings --- */

struct result_call {
	struct run_lookup lookup; /* first: the data of a lookup */
	char name[512];
	struct buf manifest;
	json_t *parsed;
};

static void
result_release(void *data)
{
	struct result_call *k = data;

	run_lookup_release(&k->lookup);
	buf_release(&k->manifest);
	json_decref(k->parsed);
}

/* Results that were there and whose time is over are told from those that never came. */
static int
check_kept(const struct config *c, const struct ledger_run *run, struct err *e)
{
	char kept[32];

	if (!run->results_gone)
		return 0;
	num_format_duration(run->retention_ms > 0 ? run->retention_ms : retention_default_ms(c), kept, sizeof(kept));
	err_set(e, ERR_NOTFOUND, "the results of run %s were removed, %s after its end", run->row.id, kept);
	return err_hint(e, "retention_ms of a submission, or WORKFLOW_RETENTION, keeps them longer");
}

static void
findings_found(struct call *c)
{
	struct result_call *k = c->data;
	const struct run_row *row = &k->lookup.run.row;
	char key[KEY_TEXT_MAX], missing[160];
	struct err e = {0};

	if (!run_state_final(row->state)) {
		err_set(&e, ERR_CONFLICT, "run %s is %s: there are no findings yet", row->id, run_state_word(row->state));
		err_hint(&e, "wait for it: GET /v1/run/%s?index=…&wait=30s", row->id);
	} else if (row->attempt == 0) {
		err_set(&e, ERR_NOTFOUND, "run %s never started: %.200s", row->id, row->reason);
	} else {
		check_kept(c->d->config, &k->lookup.run, &e);
	}
	if (e.code != 0) {
		call_reply_err(c, &e);
		return;
	}
	snprintf(missing, sizeof(missing), "run %.40s has no findings (%s%s%.70s)", row->id, run_state_word(row->state),
	    row->reason[0] != '\0' ? ": " : "", row->reason);
	results_stream(c, c->d->config->store.results, key_result(row->id, row->attempt, RESULT_SARIF, key, sizeof(key)),
	    "application/sarif+json", 0, missing);
}

static struct call *
result_call(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct result_call), result_release);

	((struct result_call *)c->data)->manifest = buf_make(MANIFEST_MAX_BYTES);
	return c;
}

void
run_findings(struct http_req *r, void *ctx)
{
	query_run(result_call(r, ctx), findings_found);
}

/* --- artefacts: what the manifest of the accepted attempt names --- */

/* A manifest that was read. It cannot hold its own digest: its line in the list of files is made here. */
static int
manifest_parse(const struct buf *text, bool lists_itself, json_t **ret, struct err *e)
{
	json_t *o = json_loadb(buf_str(text), text->len, JSON_REJECT_DUPLICATES, NULL), *files = json_object_get(o, "files");
	uint8_t raw[SHA256_LEN];
	char hex[SHA256_HEX_LEN];

	if (!json_is_array(files)) {
		/* Sound, but without a list: of an older worker, whose manifest came after it or never. */
		int rc = json_is_object(o) && files == NULL ? ERR_NOTFOUND : ERR_IO;

		json_decref(o);
		return err_set(e, rc, "the manifest cannot be read");
	}
	if (!lists_itself) {
		sha256_of(buf_str(text), text->len, raw);
		hex_encode(raw, sizeof(raw), hex);
		json_array_append_new(files, json_pack("{s:s, s:I, s:s}", "name", RESULT_MANIFEST, "size_bytes", (json_int_t)text->len,
		    "sha256", hex));
	}
	*ret = o;
	return 0;
}

int
manifest_get(struct dispatcher *d, const struct run_row *row, struct buf *text, json_t **ret, struct err *e)
{
	static const char *const names[] = {RESULT_MANIFEST, RESULT_MANIFEST_OLD};
	char key[KEY_TEXT_MAX];
	int rc = ERR_NOTFOUND;

	for (size_t i = 0; rc == ERR_NOTFOUND && i < sizeof(names) / sizeof(names[0]); i++) {
		buf_clear(text);
		rc = store_get_bytes(d->brief, d->config->store.results, key_result(row->id, row->attempt, names[i], key, sizeof(key)), text, e);
		if (rc == 0)
			rc = manifest_parse(text, i > 0, ret, e);
	}
	return rc;
}

static int
manifest_read(struct dispatcher *d, void *data, struct err *e)
{
	struct result_call *k = data;
	const struct run_row *row = &k->lookup.run.row;
	int rc = manifest_get(d, row, &k->manifest, &k->parsed, e);

	if (rc == ERR_NOTFOUND)
		return err_set(e, rc, "run %s has no artefacts", row->id);
	return rc != 0 ? err_prefix(e, rc, "run %s", row->id) : 0;
}

static json_t *
manifest_file(const struct result_call *k, const char *name)
{
	size_t i;
	json_t *f;

	json_array_foreach(json_object_get(k->parsed, "files"), i, f)
	{
		const char *has = json_string_value(json_object_get(f, "name"));

		if (has != NULL && strcmp(has, name) == 0)
			return f;
	}
	return NULL;
}

static void
artifacts_read(struct call *c)
{
	struct result_call *k = c->data;

	if (c->rc != 0)
		call_reply_err(c, &c->err);
	else
		call_reply(c, 200, json_pack("{s:O}", "artifacts", json_object_get(k->parsed, "files")));
}

static void
artifact_read(struct call *c)
{
	struct result_call *k = c->data;
	const struct run_row *row = &k->lookup.run.row;
	char key[KEY_TEXT_MAX];

	if (c->rc == 0 && manifest_file(k, k->name) == NULL) {
		c->rc = err_set(&c->err, ERR_NOTFOUND, "run %s has no artefact '%.120s'", row->id, k->name);
		err_hint(&c->err, "GET /v1/run/%s/artifacts lists them", row->id);
	}
	if (c->rc != 0 || c->r == NULL)
		call_reply_err(c, &c->err);
	else
		results_stream(c, c->d->config->store.results, key_result(row->id, row->attempt, k->name, key, sizeof(key)),
		    "application/octet-stream", 0, "the artefact is not in the store any more");
}

static void
need_manifest(struct call *c, void (*then)(struct call *c))
{
	struct result_call *k = c->data;
	const struct run_row *row = &k->lookup.run.row;
	struct err e = {0};

	if (check_kept(c->d->config, &k->lookup.run, &e) != 0) {
		call_reply_err(c, &e);
		return;
	}
	if (row->attempt > 0 && run_state_final(row->state)) {
		call_work(c, c->d->stores, manifest_read, then);
		return;
	}
	err_set(&e, run_state_final(row->state) ? ERR_NOTFOUND : ERR_CONFLICT, "run %s is %s: it has no artefacts", row->id,
	    run_state_word(row->state));
	call_reply_err(c, &e);
}

static void
artifacts_found(struct call *c)
{
	need_manifest(c, artifacts_read);
}

static void
artifact_found(struct call *c)
{
	need_manifest(c, artifact_read);
}

void
run_artifacts(struct http_req *r, void *ctx)
{
	query_run(result_call(r, ctx), artifacts_found);
}

void
run_artifact(struct http_req *r, void *ctx)
{
	struct call *c = result_call(r, ctx);
	struct result_call *k = c->data;
	struct err e = {0};

	if (!store_key_valid(http_param(r, "name")) || strlen(http_param(r, "name")) >= sizeof(k->name)) {
		err_set(&e, ERR_INVALID, "not an artefact's name");
		call_reply_err(c, &e);
		return;
	}
	snprintf(k->name, sizeof(k->name), "%s", http_param(r, "name"));
	query_run(c, artifact_found);
}
