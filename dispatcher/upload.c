#include "dispatcher/upload.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/num.h"
#include "base/utf8.h"
#include "dispatcher/buckets.h"
#include "dispatcher/meters.h"
#include "dispatcher/pipe.h"
#include "dispatcher/run_json.h"
#include "dispatcher/shell_write.h"
#include "dispatcher/targets.h"
#include "net/http_client.h"

#define THREADS 4
#define RING_BYTES (256 * 1024)
#define CONNECTION_BYTES (640 * 1024) /* that sends a part: libcurl's buffer of 512 KiB, and what the sockets and headers take */
#define PART_BYTES (5 << 20)  /* the least that S3 takes */
#define PARTS_MAX 9000        /* S3 allows 10,000 */
#define PARALLEL 3
#define GATHERED_MAX 16 /* uploads whose first bytes are taken in before they have memory for parts, and a thread */

struct upload {
	struct uploads *all;
	struct call *call;
	struct pipe *pipe;
	int64_t declared_bytes;   /* -1 unknown */
	int64_t received_bytes;   /* loop */
	struct put_options put;
	int64_t memory_bytes;     /* its part of the common memory */
	char claimed[SHA256_HEX_LEN]; /* "" none */
	struct ledger_target target;
	bool too_big;             /* loop: answered already */
	/* thread */
	struct sha256 *sha;
	int64_t read_bytes;
	bool known;               /* was stored before */
	bool held;                /* its object: nobody removes it before the row is written */
	atomic_bool stop;
	bool gathering;           /* loop: its first bytes are on their way: until the ring is full, or the body has ended */
	bool gathered;            /* loop: it counts against GATHERED_MAX */
	struct upload *next;      /* of the queue that it is in */
};

struct uploads {
	struct dispatcher *d;
	struct work_pool *pool;
	int64_t memory_bytes, used_bytes;
	size_t gathered;
	struct queue {
		struct upload *first, **tail;
	} arrived, ready; /* waiting for their first bytes to be taken; for memory */
};

static void
queue_add(struct queue *q, struct upload *u)
{
	u->next = NULL;
	*q->tail = u;
	q->tail = &u->next;
}

static struct upload *
queue_take(struct queue *q)
{
	struct upload *u = q->first;

	q->first = u->next;
	if (q->first == NULL)
		q->tail = &q->first;
	return u;
}

static void
queue_remove(struct queue *q, struct upload *u)
{
	for (struct upload **at = &q->first; *at != NULL; at = &(*at)->next)
		if (*at == u) {
			*at = u->next;
			if (q->tail == &u->next)
				q->tail = at;
			return;
		}
}

struct uploads *
uploads_new(struct dispatcher *d, int64_t memory_bytes, struct err *e)
{
	struct uploads *u = xcalloc(1, sizeof(*u));

	u->d = d;
	u->memory_bytes = memory_bytes - GATHERED_MAX * RING_BYTES;
	u->arrived.tail = &u->arrived.first;
	u->ready.tail = &u->ready.first;
	u->pool = work_pool_new(d->loop, "upload", THREADS, e);
	if (u->pool == NULL) {
		free(u);
		return NULL;
	}
	return u;
}

void
uploads_free(struct uploads *u)
{
	if (u == NULL)
		return;
	work_pool_free(u->pool);
	free(u);
}

static void
upload_release(void *data)
{
	struct upload *u = data;

	if (u->held)
		buckets_let_go(u->all->d->buckets, u->target.id);
	pipe_free(u->pipe);
	sha256_free(u->sha);
}

/* --- thread: bytes from the pipe into the store --- */

static void
resume(void *arg)
{
	struct upload *u = arg;

	if (u->call->r != NULL && !u->too_big)
		http_body_resume(u->call->r);
}

/* At the end the digest decides: a mismatch fails the put, which then leaves nothing behind. */
static int
check_digest(struct upload *u, struct err *e)
{
	uint8_t hash[SHA256_LEN];

	sha256_end(u->sha, hash);
	u->sha = NULL;
	hex_encode(hash, sizeof(hash), u->target.sha256);
	u->target.size_bytes = u->read_bytes;
	if (u->read_bytes == 0)
		return err_set(e, ERR_INVALID, "the body is empty");
	if (u->claimed[0] != '\0' && strcmp(u->claimed, u->target.sha256) != 0) {
		err_set(e, ERR_INVALID, "the bytes that came have the SHA-256 %s, not the one that was announced", u->target.sha256);
		return err_hint(e, "the upload was damaged on its way, or the file changed meanwhile: send it again");
	}
	return 0;
}

static long
take_bytes(void *arg, void *out, size_t len, struct err *e)
{
	struct upload *u = arg;
	bool room;
	long n;

	if (u->sha == NULL)
		return 0;
	n = pipe_read_wait(u->pipe, out, len, &room);
	if (room)
		loop_post(u->all->d->loop, resume, u);
	if (n < 0)
		return err_set(e, ERR_CANCELED, "the client went away");
	if (n == 0)
		return check_digest(u, e);
	sha256_add(u->sha, out, (size_t)n);
	u->read_bytes += n;
	return n;
}

static int
drain(struct upload *u, struct err *e)
{
	char *piece = xmalloc(RING_BYTES);
	long n;

	while ((n = take_bytes(u, piece, RING_BYTES, e)) > 0)
		continue;
	free(piece);
	return (int)n;
}

/* Whether the ledger and the store have it, and will for a good while. It then keeps its time: its object is as old as it is. */
static bool
already_there(struct dispatcher *d, struct upload *u)
{
	struct ledger_target found;
	struct object_info info;
	char key[1200];
	struct err e;

	u->known = ledger_target_find(d->ledger, u->target.id, NULL, &found, &e) == 0 &&
	    found.expires_real_ms > clock_real_ms() + d->config->target_retention_ms / 2 &&
	    store_head(d->brief, d->config->store.targets, key_target(found.id, key, sizeof(key)), &info, &e) == 0 &&
	    info.size_bytes == found.size_bytes;
	if (u->known) {
		u->target.created_real_ms = found.created_real_ms;
		u->target.expires_real_ms = found.expires_real_ms;
		u->target.dated_real_ms = found.dated_real_ms;
	}
	return u->known;
}

static size_t
object_metadata(const struct upload *u, const char *sha256, struct object_meta meta[4])
{
	struct buf name = buf_make(sizeof(meta[0].value)), tenant = buf_make(sizeof(meta[0].value));
	char at[CLOCK_TEXT_LEN];

	memset(meta, 0, 4 * sizeof(meta[0]));
	/* A name that does not fit once it is encoded stays in the ledger alone. */
	if (http_encode(&name, u->target.filename, false) != 0)
		buf_clear(&name);
	if (http_encode(&tenant, u->target.tenant, false) != 0)
		buf_clear(&tenant);
	snprintf(meta[0].name, sizeof(meta[0].name), "filename");
	snprintf(meta[0].value, sizeof(meta[0].value), "%s", buf_str(&name));
	snprintf(meta[1].name, sizeof(meta[1].name), "user-id");
	snprintf(meta[1].value, sizeof(meta[1].value), "%s", buf_str(&tenant));
	snprintf(meta[2].name, sizeof(meta[2].name), "uploaded-at");
	snprintf(meta[2].value, sizeof(meta[2].value), "%s", clock_text(u->target.created_real_ms, at));
	snprintf(meta[3].name, sizeof(meta[3].name), "sha256");
	snprintf(meta[3].value, sizeof(meta[3].value), "%s", sha256);
	buf_release(&name);
	buf_release(&tenant);
	return sha256[0] == '\0' ? 3 : 4;
}

/* The id is known: from here to the row nobody takes the object away. */
static void
hold(struct dispatcher *d, struct upload *u, const char *sha256)
{
	target_id_of(d->ledger, u->target.tenant, sha256, u->target.id);
	buckets_hold(d->buckets, u->target.id);
	u->held = true;
}

static int
put_announced(struct dispatcher *d, struct upload *u, struct err *e)
{
	struct object_source src = {take_bytes, u, u->declared_bytes};
	struct object_meta meta[4];
	char key[1200];

	hold(d, u, u->claimed);
	if (already_there(d, u))
		return drain(u, e);
	u->put.n_meta = object_metadata(u, u->claimed, meta);
	u->put.meta = meta;
	u->put.sha256 = u->target.sha256;
	return store_put(d->store, d->config->store.targets, key_target(u->target.id, key, sizeof(key)), &src, &u->put, NULL, &u->stop, e);
}

/* Nothing is known before the last byte has come: the bytes wait under another name, and move without passing us again. */
static int
put_unannounced(struct dispatcher *d, struct upload *u, struct err *e)
{
	struct object_source src = {take_bytes, u, u->declared_bytes};
	const char *bucket = d->config->store.targets;
	struct object_meta meta[4];
	char staging[64] = BUCKET_STAGING_PREFIX, key[1200];
	struct err ignored;
	size_t n;
	int rc;

	uuid_text(staging + strlen(staging));
	buckets_hold(d->buckets, staging);
	u->put.sha256 = u->target.sha256;
	if ((rc = store_put(d->store, bucket, staging, &src, &u->put, NULL, &u->stop, e)) != 0)
		goto out;
	fault_point("upload.before_copy");
	hold(d, u, u->target.sha256);
	if (!already_there(d, u)) {
		n = object_metadata(u, u->target.sha256, meta);
		rc = store_copy(d->brief, bucket, staging, key_target(u->target.id, key, sizeof(key)), meta, n, e);
	}
	buckets_remove(d->buckets, BUCKET_TARGETS, staging, &ignored);
out:
	buckets_let_go(d->buckets, staging);
	return rc;
}

static int
store_upload(struct dispatcher *d, void *data, struct err *e)
{
	struct upload *u = data;

	int rc = buckets_make(d->buckets, e); /* the first upload may come before the janitor */

	if (rc != 0)
		return rc;
	return u->claimed[0] != '\0' ? put_announced(d, u, e) : put_unannounced(d, u, e);
}

/* --- loop --- */

static void start_waiting(struct uploads *all);

static void
give_back(struct upload *u)
{
	u->all->used_bytes -= u->memory_bytes;
	u->memory_bytes = 0;
	start_waiting(u->all);
}

static void
row_written(struct call *c, const struct ledger_txn *t)
{
	struct upload *u = c->data;
	struct err e = t->err;

	if (t->result != LEDGER_OK) {
		err_set(&e, ERR_RETRY, "the ledger cannot write now");
		call_reply_err(c, &e);
		return;
	}
	target_cache_put(c->d->target_cache, &u->target);
	call_reply(c, u->known ? 200 : 201, json_pack("{s:o}", "target", target_json(&u->target)));
}

static void
stored(struct call *c)
{
	struct upload *u = c->data;
	struct ledger_op op = {.kind = LEDGER_TARGET_PUT, .target = &u->target};

	c->gone = NULL;
	metrics_add(METER_UPLOADS, c->rc == 0 ? "ok" : err_word(c->rc), 1);
	give_back(u);
	if (c->rc != 0 || u->too_big)
		call_reply_err(c, &c->err);
	else
		shell_write(c->d, &op, c, row_written);
}

static void
upload_gone(struct call *c)
{
	struct upload *u = c->data;

	atomic_store(&u->stop, true);
	pipe_break(u->pipe);
}

/* Whether the upload can go on without its client: then it waits for memory and a thread, which a slow client must not hold. */
static void
ready(struct upload *u)
{
	if (!u->gathering)
		return;
	u->gathering = false;
	queue_add(&u->all->ready, u);
	start_waiting(u->all);
}

static size_t
piece(struct http_req *r, const void *data, size_t len, void *arg)
{
	struct upload *u = arg;
	size_t n;
	bool stalled;

	if (u->too_big)
		return len;
	if (data == NULL) {
		pipe_close(u->pipe);
		ready(u);
		return 0;
	}
	if (u->received_bytes + (int64_t)len > u->all->d->config->upload_max_bytes) {
		struct err e = {0};
		char text[32];

		u->too_big = true;
		err_set(&e, ERR_TOOBIG, "a target has at most %s (UPLOAD_MAX)",
		    num_format_size(u->all->d->config->upload_max_bytes, text, sizeof(text)));
		http_on_gone(r, NULL, NULL);
		u->call->r = NULL;
		http_reply_err(r, &e);
		upload_gone(u->call);
		ready(u);
		return len;
	}
	n = pipe_write(u->pipe, data, len, &stalled);
	u->received_bytes += (int64_t)n;
	metrics_add(METER_UPLOAD_BYTES, NULL, (int64_t)n);
	if (stalled)
		ready(u);
	return n;
}

static int64_t
memory_for(const struct upload *u, unsigned parallel)
{
	int64_t parts = (int64_t)(parallel > 1 ? parallel : 2) * ((int64_t)u->put.part_bytes + CONNECTION_BYTES);

	return (u->declared_bytes >= 0 && u->declared_bytes < parts ? u->declared_bytes : parts) + RING_BYTES;
}

/* Takes memory for an upload: parts in parallel when enough is left for the next one, one after the other when not. The only one
 * there is always goes on, so that no setting can stop uploads for good. */
static bool
take_memory(struct uploads *all, struct upload *u)
{
	static const unsigned choices[] = {PARALLEL, 1};

	for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
		int64_t need = memory_for(u, choices[i]), spare = choices[i] > 1 ? memory_for(u, 1) : 0;

		if (all->used_bytes + need + spare > all->memory_bytes && !(all->used_bytes == 0 && choices[i] == 1))
			continue;
		u->put.parallel = choices[i];
		u->memory_bytes = need;
		all->used_bytes += need;
		return true;
	}
	return false;
}

static void
start(struct upload *u)
{
	u->gathered = false;
	u->all->gathered--;
	u->sha = sha256_new();
	u->call->gone = upload_gone;
	call_work(u->call, u->all->pool, store_upload, stored);
}

static void
start_waiting(struct uploads *all)
{
	if (all->d->stopping)
		return; /* those that wait are dismissed */
	while (all->ready.first != NULL && take_memory(all, all->ready.first))
		start(queue_take(&all->ready));
	while (all->arrived.first != NULL && all->gathered < GATHERED_MAX) {
		struct upload *u = queue_take(&all->arrived);

		u->gathering = u->gathered = true;
		all->gathered++;
		u->pipe = pipe_new(RING_BYTES);
		http_read_body(u->call->r, piece, u);
	}
}

static void
waiting_gone(struct call *c)
{
	struct upload *u = c->data;

	struct uploads *all = u->all;

	queue_remove(&all->arrived, u);
	queue_remove(&all->ready, u);
	all->gathered -= u->gathered;
	call_end(c);
	start_waiting(all);
}

/* The file's name as the header gives it: percent-encoded UTF-8, a plain name. */
static int
take_filename(const char *text, char *out, size_t len, struct err *e)
{
	size_t n = 0;

	for (const char *p = text; p != NULL && *p != '\0'; p++) {
		int byte = *p == '%' ? percent_byte(p) : (unsigned char)*p;

		if (byte < 0)
			return err_set(e, ERR_INVALID, "X-Drover-Filename: a broken %% escape");
		p += *p == '%' ? 2 : 0;
		if (byte < 0x20 || byte == 0x7f || byte == '/' || n + 1 >= len)
			return err_set(e, ERR_INVALID, "X-Drover-Filename: a plain name of at most %zu bytes", len - 1);
		out[n++] = (char)byte;
	}
	out[n] = '\0';
	return utf8_valid(out) ? 0 : err_set(e, ERR_INVALID, "X-Drover-Filename: not UTF-8");
}

static int
check_headers(struct call *c, struct upload *u, struct err *e)
{
	const char *claimed = http_header(c->r, "X-Drover-Sha256");
	int64_t max = c->d->config->upload_max_bytes, longest;
	char text[32];

	u->declared_bytes = http_content_length(c->r);
	if (u->declared_bytes == 0)
		return err_set(e, ERR_INVALID, "the body is empty");
	if (u->declared_bytes > max)
		return err_set(e, ERR_TOOBIG, "a target has at most %s (UPLOAD_MAX)", num_format_size(max, text, sizeof(text)));
	if (claimed != NULL && !sha256_text_valid(claimed))
		return err_set(e, ERR_INVALID, "X-Drover-Sha256: 64 lower-case hex digits");
	snprintf(u->claimed, sizeof(u->claimed), "%s", claimed == NULL ? "" : claimed);
	longest = u->declared_bytes >= 0 ? u->declared_bytes : max;
	u->put.part_bytes = longest / PARTS_MAX > PART_BYTES ? (size_t)(longest / PARTS_MAX) : PART_BYTES;
	u->put.content_type = "application/octet-stream";
	return take_filename(http_header(c->r, "X-Drover-Filename"), u->target.filename, sizeof(u->target.filename), e);
}

/* Known to be away, the store is not waited for: the client learns it before it sends the bytes. */
static int
check_open(const struct dispatcher *d, struct err *e)
{
	if (d->stopping)
		return err_set(e, ERR_RETRY, "the dispatcher is stopping");
	if (d->store_up || d->store_why[0] == '\0')
		return 0;
	err_set(e, ERR_RETRY, "the object store cannot be used now: %.200s", d->store_why);
	return err_hint(e, "try again later; GET /v1/agent/health tells when it is back");
}

void
target_upload(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, sizeof(struct upload), upload_release);
	struct upload *u = c->data;
	struct err e = {0};

	u->all = c->d->uploads;
	u->call = c;
	if (check_open(c->d, &e) != 0 || check_headers(c, u, &e) != 0) {
		call_reply_err(c, &e);
		return;
	}
	snprintf(u->target.tenant, sizeof(u->target.tenant), "%s", c->who.tenant);
	u->target.created_real_ms = clock_real_ms();
	u->target.expires_real_ms = target_expiry(c->d->config, u->target.created_real_ms);
	u->target.dated_real_ms = u->target.created_real_ms;
	c->gone = waiting_gone;
	queue_add(&u->all->arrived, u);
	start_waiting(u->all);
}
