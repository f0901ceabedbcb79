/* Storing on S3: one PUT for what fits into a part, else a multipart upload with several parts in flight.
 *
 * The caller's thread reads the source into buffers; up to `parallel` threads of this put, joined before it returns, send
 * them. A part's bytes stay in its buffer until the server has them, so that it can be sent again.
 *
 * Whose put was it? An answer may be lost after the server has done the work; the next try is then refused because the object
 * is there (if_absent) or because the upload is over. So these objects carry a random token in their metadata, and a head
 * decides.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/threads.h"
#include "storage/store_s3.h"

#define MIB ((size_t)1024 * 1024)
#define PART_MIN_BYTES (5 * MIB) /* S3's, except for the last one */
#define PARTS_MAX 10000          /* S3's */
#define STOP_POLL_MS 100

enum slot_state { SLOT_FREE, SLOT_FULL, SLOT_SENDING };

struct slot { /* a buffer and the part in it */
	enum slot_state state;
	char *data; /* mapped when first needed, so that its memory goes back to the system afterwards */
	size_t len;
	size_t number; /* from 1 */
};

struct put {
	struct s3_store *s;
	const char *bucket, *key;
	struct object_source *src;
	const struct put_options *o;
	const atomic_bool *stop; /* the caller's */
	size_t part_bytes;
	int64_t size;            /* read so far */
	bool ended;              /* the source */
	char token[37];
	char id[S3_UPLOAD_ID_MAX];

	pthread_mutex_t lock;
	pthread_cond_t change;   /* a slot's state, halt or done */
	struct slot slots[STORE_PARALLEL_MAX];
	size_t n_slots;
	struct s3_part *parts;   /* etags by number - 1 */
	size_t n_parts, cap_parts;
	pthread_t threads[STORE_PARALLEL_MAX];
	size_t n_threads, max_threads;
	bool done;               /* no more parts will come */
	atomic_bool halt;        /* the stop flag of the threads' calls: failed or stopped */
	int rc;                  /* first failure of a thread */
	struct err e;
};

/* --- reading --- */

static int
slot_map(const struct put *p, struct slot *slot, struct err *e)
{
	void *m;

	if (slot->data != NULL)
		return 0;
	m = mmap(NULL, p->part_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		return err_set(e, ERR_RETRY, "no memory for a part of %zu bytes", p->part_bytes);
	slot->data = m;
	return 0;
}

/* Fills the slot up to a whole part; less only at the source's end. */
static int
slot_read(struct put *p, struct slot *slot, struct err *e)
{
	int64_t announced = p->src->size_bytes;
	int rc = slot_map(p, slot, e);

	slot->len = 0;
	while (rc == 0 && !p->ended && slot->len < p->part_bytes) {
		long n;

		if ((p->stop != NULL && atomic_load(p->stop)))
			return err_set(e, ERR_CANCELED, "stopped while storing %s/%.200s", p->bucket, p->key);
		n = p->src->read(p->src->arg, slot->data + slot->len, p->part_bytes - slot->len, e);
		if (n < 0)
			return (int)n;
		p->ended = n == 0;
		slot->len += (size_t)n;
		p->size += n;
		if (announced >= 0 && p->size > announced)
			return err_set(e, ERR_INVALID, "the source gave more than the %lld bytes announced", (long long)announced);
	}
	if (rc == 0 && p->ended && announced >= 0 && p->size < announced)
		rc = err_set(e, ERR_INVALID, "the source ended after %lld of %lld bytes", (long long)p->size, (long long)announced);
	return rc;
}

/* --- whose put was it? --- */

static void
add_object_headers(struct s3_call *c, const struct put *p, bool with_token, char names[OBJECT_META_MAX][52])
{
	s3_call_header(c, "content-type", p->o->content_type != NULL ? p->o->content_type : "application/octet-stream");
	s3_call_meta(c, p->o->meta, p->o->n_meta, names);
	if (with_token)
		s3_call_header(c, S3_TOKEN_META, p->token);
}

/* After a failure with an unclear past: 0 and the object's info if it is there and ours, else rc. */
static int
ours_after_all(const struct put *p, const struct s3_call *failed, int rc, struct object_info *ret_info)
{
	struct s3_call c = s3_call_make("HEAD", p->bucket, p->key, p->stop);

	if (failed->ambiguous && s3_perform(p->s, &c, NULL) == 0 && strcmp(c.token, p->token) == 0) {
		*ret_info = c.info;
		rc = 0;
	}
	s3_call_release(&c);
	return rc;
}

/* --- one PUT --- */

static int
put_whole(struct put *p, struct object_info *ret_info, struct err *e)
{
	struct s3_call c = s3_call_make("PUT", p->bucket, p->key, p->stop);
	char names[OBJECT_META_MAX][52];
	int rc;

	add_object_headers(&c, p, p->o->if_absent, names);
	if (p->o->if_absent)
		s3_call_header(&c, "if-none-match", "*");
	c.body = p->slots[0].data;
	c.body_len = p->slots[0].len;
	c.bulk = true;
	c.sha256 = p->o->sha256;
	rc = s3_perform(p->s, &c, e);
	*ret_info = c.info;
	ret_info->modified_real_ms = c.date_real_ms;
	if (rc != 0 && p->o->if_absent)
		rc = ours_after_all(p, &c, rc, ret_info);
	s3_call_release(&c);
	return rc;
}

/* --- parts --- */

static int
send_part(struct put *p, const struct slot *slot, struct s3_part *ret_part, struct err *e)
{
	struct s3_call c = s3_call_make("PUT", p->bucket, p->key, &p->halt);
	char number[24];
	int rc;

	snprintf(number, sizeof(number), "%zu", slot->number);
	s3_call_query(&c, "partNumber", number);
	s3_call_query(&c, "uploadId", p->id);
	c.body = slot->data;
	c.body_len = slot->len;
	c.bulk = true;
	rc = s3_perform(p->s, &c, e);
	if (rc == 0 && c.info.etag[0] == '\0')
		rc = err_set(e, ERR_PROTO, "S3 took a part of %s/%.200s without an etag", p->bucket, p->key);
	else if (rc == ERR_NOTFOUND)
		rc = err_set(e, ERR_RETRY, "S3 has forgotten the upload of %s/%.200s", p->bucket, p->key);
	snprintf(ret_part->etag, sizeof(ret_part->etag), "%s", c.info.etag);
	s3_call_release(&c);
	return rc;
}

static struct slot *
slot_in(struct put *p, enum slot_state state)
{
	for (size_t i = 0; i < p->n_slots; i++)
		if (p->slots[i].state == state)
			return &p->slots[i];
	return NULL;
}

static void *
sender(void *arg)
{
	struct put *p = arg;

	pthread_mutex_lock(&p->lock);
	while (!atomic_load(&p->halt)) {
		struct slot *slot = slot_in(p, SLOT_FULL);
		struct s3_part part;
		struct err e = {.code = 0};
		int rc;

		if (slot == NULL && p->done)
			break;
		if (slot == NULL) {
			pthread_cond_wait(&p->change, &p->lock);
			continue;
		}
		slot->state = SLOT_SENDING;
		pthread_mutex_unlock(&p->lock);
		rc = send_part(p, slot, &part, &e);
		pthread_mutex_lock(&p->lock);
		if (rc == 0)
			p->parts[slot->number - 1] = part;
		slot->state = SLOT_FREE;
		if (rc != 0 && !atomic_exchange(&p->halt, true)) {
			p->rc = rc;
			p->e = e;
		}
		pthread_cond_broadcast(&p->change);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* One more sender while parts wait and there may be more. Without any there is no progress. */
static int
add_sender(struct put *p, struct err *e)
{
	int failed;

	if (p->n_threads == p->max_threads)
		return 0;
	failed = thread_try(&p->threads[p->n_threads], "put", sender, p);
	if (failed == 0)
		p->n_threads++;
	return p->n_threads > 0 ? 0 : err_set(e, ERR_RETRY, "no thread to send with: %s", strerror(failed));
}

/* Waits for a change while looking at the caller's stop flag. Returns 0, or what ended the put. Lock held. */
static int
await_change(struct put *p, struct err *e)
{
	if (p->stop != NULL && atomic_load(p->stop) && !atomic_exchange(&p->halt, true)) {
		p->rc = err_set(&p->e, ERR_CANCELED, "stopped while storing %s/%.200s", p->bucket, p->key);
		pthread_cond_broadcast(&p->change);
	}
	if (p->rc != 0) {
		if (e != NULL)
			*e = p->e;
		return p->rc;
	}
	(void)cond_wait_until(&p->change, &p->lock, clock_mono_ms() + STOP_POLL_MS);
	return 0;
}

/* Hands a filled slot to the senders. */
static int
submit(struct put *p, struct slot *slot, struct err *e)
{
	int rc;

	if (p->n_parts == PARTS_MAX) {
		rc = err_set(e, ERR_TOOBIG, "%s/%.200s is larger than %d parts of %zu bytes", p->bucket, p->key, PARTS_MAX,
		    p->part_bytes);
		err_hint(e, "give the size in advance, or use larger parts");
		return rc;
	}
	pthread_mutex_lock(&p->lock);
	if (p->n_parts == p->cap_parts) {
		p->cap_parts = p->cap_parts == 0 ? 64 : 2 * p->cap_parts;
		p->parts = xrealloc(p->parts, p->cap_parts * sizeof(p->parts[0]));
	}
	slot->number = ++p->n_parts;
	slot->state = SLOT_FULL;
	rc = add_sender(p, e);
	pthread_cond_broadcast(&p->change);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

/* Waits for a free slot (want_all: for every part to be sent). */
static int
await_free(struct put *p, bool want_all, struct slot **ret_slot, struct err *e)
{
	int rc = 0;

	pthread_mutex_lock(&p->lock);
	while (rc == 0) {
		bool busy = slot_in(p, SLOT_FULL) != NULL || slot_in(p, SLOT_SENDING) != NULL;

		if (p->rc == 0 && (want_all ? !busy : (*ret_slot = slot_in(p, SLOT_FREE)) != NULL))
			break;
		rc = await_change(p, e);
	}
	pthread_mutex_unlock(&p->lock);
	return rc;
}

/* Sends the rest of the source after slot 0 was filled with the first part (and slot 1, if size is unknown, with the next). */
static int
send_parts(struct put *p, struct err *e)
{
	struct slot *slot = NULL;
	int rc = 0;

	for (size_t i = 0; i < p->n_slots && rc == 0; i++)
		if (p->slots[i].len > 0)
			rc = submit(p, &p->slots[i], e);
	while (rc == 0) {
		if ((rc = await_free(p, false, &slot, e)) != 0 || (rc = slot_read(p, slot, e)) != 0 || slot->len == 0)
			break;
		rc = submit(p, slot, e);
	}
	return rc != 0 ? rc : await_free(p, true, &slot, e);
}

static void
join_senders(struct put *p, bool halt)
{
	pthread_mutex_lock(&p->lock);
	p->done = true;
	if (halt)
		atomic_store(&p->halt, true);
	pthread_cond_broadcast(&p->change);
	pthread_mutex_unlock(&p->lock);
	for (size_t i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
}

static int
complete(struct put *p, struct object_info *ret_info, struct err *e)
{
	struct s3_call c = s3_call_make("POST", p->bucket, p->key, p->stop);
	int rc;

	if (p->o->if_absent)
		s3_call_header(&c, "if-none-match", "*");
	rc = s3_upload_complete(p->s, &c, p->id, p->parts, p->n_parts, e);
	*ret_info = c.info;
	ret_info->modified_real_ms = c.date_real_ms;
	if (rc != 0)
		rc = ours_after_all(p, &c, rc, ret_info);
	if (rc == ERR_NOTFOUND)
		rc = err_set(e, ERR_RETRY, "S3 has forgotten the upload of %s/%.200s", p->bucket, p->key);
	s3_call_release(&c);
	return rc;
}

static int
put_parts(struct put *p, struct object_info *ret_info, struct err *e)
{
	struct s3_call c = s3_call_make("POST", p->bucket, p->key, p->stop);
	char names[OBJECT_META_MAX][52];
	struct object_info there;
	int rc = 0;

	/* Spares the transfer where the answer is known already; complete asks again, for good. */
	if (p->o->if_absent && s3_head(&p->s->base, p->bucket, p->key, &there, e) == 0)
		rc = err_set(e, ERR_CONFLICT, "%s/%.200s is there already", p->bucket, p->key);
	if (rc == 0) {
		add_object_headers(&c, p, true, names);
		rc = s3_upload_create(p->s, &c, p->id, e);
	}
	if (rc == 0)
		rc = send_parts(p, e);
	join_senders(p, rc != 0);
	if (rc == 0)
		rc = complete(p, ret_info, e);
	if (rc != 0 && p->id[0] != '\0')
		s3_upload_abort(p->s, p->bucket, p->key, p->id, rc);
	s3_call_release(&c);
	return rc;
}

/* --- the whole --- */

/* 10,000 parts have to be enough for a size that is known. */
static size_t
part_bytes_for(size_t part, int64_t size_bytes)
{
	if (part < PART_MIN_BYTES)
		part = PART_MIN_BYTES;
	if (size_bytes > (int64_t)part * PARTS_MAX)
		part = ((size_t)(size_bytes / PARTS_MAX) / MIB + 1) * MIB;
	/* What is small and known needs no whole part; one byte more shows a source that gives too much. */
	if (size_bytes >= 0 && size_bytes < (int64_t)part)
		part = (size_t)size_bytes + 1;
	return part;
}

static void
put_init(struct put *p)
{
	pthread_mutex_init(&p->lock, NULL);
	cond_init_mono(&p->change);
	p->part_bytes = part_bytes_for(p->o->part_bytes > 0 ? p->o->part_bytes : p->s->base.limits.put_part_bytes,
	    p->src->size_bytes);
	p->max_threads = p->o->parallel > 0 ? p->o->parallel : p->s->base.limits.put_parallel;
	if (p->max_threads > STORE_PARALLEL_MAX)
		p->max_threads = STORE_PARALLEL_MAX;
	/* Two at least: whether the first part is the only one shows when the next is read. */
	p->n_slots = p->max_threads > 1 ? p->max_threads : 2;
	uuid_text(p->token);
}

static void
put_release(struct put *p)
{
	for (size_t i = 0; i < p->n_slots; i++)
		if (p->slots[i].data != NULL)
			munmap(p->slots[i].data, p->part_bytes);
	free(p->parts);
	pthread_cond_destroy(&p->change);
	pthread_mutex_destroy(&p->lock);
}

int
s3_put(struct object_store *store, const char *bucket, const char *key, struct object_source *src,
    const struct put_options *o, struct object_info *ret_info, const atomic_bool *stop, struct err *e)
{
	struct put p = {.s = (struct s3_store *)store, .bucket = bucket, .key = key, .src = src, .o = o, .stop = stop};
	struct object_info info = {.size_bytes = 0};
	int rc;

	put_init(&p);
	rc = slot_read(&p, &p.slots[0], e);
	/* A part that is full to the brim may be all there is, or not: only the next read tells. */
	if (rc == 0 && p.slots[0].len == p.part_bytes)
		rc = slot_read(&p, &p.slots[1], e);
	if (rc == 0)
		rc = p.slots[1].len == 0 ? put_whole(&p, &info, e) : put_parts(&p, &info, e);
	if (rc == 0 && ret_info != NULL) {
		*ret_info = info;
		ret_info->size_bytes = p.size;
		ret_info->n_meta = o->n_meta;
		if (o->n_meta > 0)
			memcpy(ret_info->meta, o->meta, o->n_meta * sizeof(o->meta[0]));
	}
	put_release(&p);
	return rc;
}
