#include "storage/fetch.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/threads.h"
#include "storage/hash_pipe.h"

#define BLOCK_BYTES HASH_PIPE_BLOCK_BYTES
#define SPAN_MAX_BYTES ((int64_t)64 * 1024 * 1024) /* that the calling thread asks for at a time */
#define WINDOW 64          /* ranges that may be ahead of the hashing, the ones in flight included */
#define PROBE_MS 25        /* how often it is judged whether another connection would help */
#define BLOCKED_PERCENT 50 /* of the time since the last probe, spent waiting for bytes: it would */
#define STOP_POLL_MS 100

struct fetch {
	struct object_store *s;
	const char *bucket, *key;
	int fd;
	int64_t size_bytes, range_bytes, n_ranges;
	bool durable;
	const atomic_bool *stop; /* the caller's */
	atomic_bool halt;        /* the stop flag of the helpers: failed or stopped */
	struct object_info info; /* set before the first helper starts */

	struct sha256 *digest;   /* of the calling thread, as the rest of this block */
	struct hash_pipe *pipe;  /* hashes what the calling thread writes; NULL: it does so itself */
	char *block;
	pthread_t helpers[STORE_PARALLEL_MAX];
	unsigned n_helpers, max_helpers;
	int64_t probed_mono_ms, idle_ns;
	int64_t span;            /* ranges that it takes next */

	pthread_mutex_t lock;    /* of all below */
	pthread_cond_t change;
	int64_t next, front;     /* range to take next; range that is being hashed */
	int64_t done[WINDOW];    /* bytes of helpers' range i that are in the file, at i % WINDOW */
	int rc;                  /* first failure of a helper */
	struct err e;
};

struct range { /* one in flight: of the calling thread, several in a row */
	struct fetch *f;
	bool ahead;              /* a helper's */
	int64_t number, offset, len;
	int64_t done;            /* bytes in the file */
	char *block;             /* what came since, BLOCK_BYTES */
	size_t block_len;
	struct object_info info; /* set by the store before the first byte */
	struct err e;            /* of our own side: store_get passes on the code alone */
};

/* --- the file --- */

static int
write_at(int fd, const char *data, size_t len, int64_t offset, struct err *e)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, data, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, errno == ENOSPC || errno == EDQUOT ? ERR_RETRY : ERR_IO, "write what is fetched: %s",
			    strerror(errno));
		data += n;
		len -= (size_t)n;
		offset += n;
	}
	return 0;
}

/* Takes the blocks at once, so that a full disk shows before the transfer and the file lies in one piece. */
static int
prepare_file(const struct fetch *f, struct err *e)
{
	if (f->size_bytes > 0 && fallocate(f->fd, 0, 0, f->size_bytes) != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
		return err_set(e, errno == ENOSPC || errno == EDQUOT ? ERR_RETRY : ERR_IO, "allocate %lld bytes: %s",
		    (long long)f->size_bytes, strerror(errno));
	if (ftruncate(f->fd, f->size_bytes) != 0)
		return err_set(e, ERR_IO, "set the size of what is fetched: %s", strerror(errno));
	return 0;
}

/* Has the disk begin with what is complete. */
static void
begin_writeback(const struct fetch *f, int64_t offset, int64_t len)
{
	if (f->durable)
		(void)sync_file_range(f->fd, offset, len, SYNC_FILE_RANGE_WRITE);
}

/* --- a request --- */

static int64_t
range_len(const struct fetch *f, int64_t number, int64_t n)
{
	int64_t left = f->size_bytes - number * f->range_bytes;

	return n * f->range_bytes < left ? n * f->range_bytes : left;
}

static int
wrong_size(const struct range *r, struct err *e)
{
	return err_set(e, ERR_INVALID, "the object has %lld bytes, %lld were promised", (long long)r->info.size_bytes,
	    (long long)r->f->size_bytes);
}

/* Asks for the bytes of r and judges what came. */
static int
get_range(struct range *r, int (*take)(void *arg, const void *data, size_t len), const atomic_bool *stop, struct err *e)
{
	struct fetch *f = r->f;
	bool whole = r->len == f->size_bytes;
	const char *etag = r->number == 0 ? NULL : f->info.etag;
	int rc = store_get(f->s, f->bucket, f->key, r->offset, whole ? -1 : r->len, etag, take, r, &r->info, stop, e);

	if (r->e.code != 0) {
		*e = r->e;
		return r->e.code;
	}
	if (rc == 0 && r->info.size_bytes != f->size_bytes && r->number == 0)
		rc = wrong_size(r, e);
	/* Not every server heeds If-Match. */
	else if (rc == 0 && (r->done != r->len || (r->number > 0 && strcmp(r->info.etag, f->info.etag) != 0)))
		rc = err_set(e, ERR_CONFLICT, "%s/%.200s has changed", f->bucket, f->key);
	return rc;
}

/* --- helpers --- */

static void
fail(struct fetch *f, int rc, const struct err *e)
{
	pthread_mutex_lock(&f->lock);
	if (f->rc == 0) {
		f->rc = rc;
		f->e = *e;
	}
	atomic_store(&f->halt, true);
	pthread_cond_broadcast(&f->change);
	pthread_mutex_unlock(&f->lock);
}

/* Writes the block, and has it hashed while it is hot; a helper tells that it is there. */
static int
write_block(struct range *r)
{
	struct fetch *f = r->f;
	int rc = write_at(f->fd, r->block, r->block_len, r->offset + r->done, &r->e);

	if (rc != 0)
		return rc;
	r->done += (int64_t)r->block_len;
	if (!r->ahead && f->pipe != NULL) {
		hash_pipe_push(f->pipe, r->block_len);
		r->block = hash_pipe_block(f->pipe);
	} else if (!r->ahead) {
		sha256_add(f->digest, r->block, r->block_len);
	} else {
		pthread_mutex_lock(&f->lock);
		f->done[r->number % WINDOW] = r->done;
		if (r->number == f->front)
			pthread_cond_broadcast(&f->change);
		pthread_mutex_unlock(&f->lock);
	}
	r->block_len = 0;
	return 0;
}

/* Takes what came, in blocks: the pieces that libcurl hands out cost a third more time in the file system. */
static int
take_bytes(struct range *r, const char *data, size_t len)
{
	int rc = 0;

	if ((int64_t)len > r->len - r->done - (int64_t)r->block_len)
		return err_set(&r->e, ERR_INVALID, "the object is larger than the %lld bytes that were promised",
		    (long long)r->f->size_bytes);
	while (rc == 0 && len > 0) {
		size_t room = BLOCK_BYTES - r->block_len, n = len < room ? len : room;

		memcpy(r->block + r->block_len, data, n);
		r->block_len += n;
		data += n;
		len -= n;
		if (r->block_len == BLOCK_BYTES || r->done + (int64_t)r->block_len == r->len)
			rc = write_block(r);
	}
	return rc;
}

static int
take_ahead(void *arg, const void *data, size_t len)
{
	return take_bytes(arg, data, len);
}

/* The next range to fetch, -1 if there is none left; waits until hashing has kept up. */
static int64_t
claim(struct fetch *f)
{
	int64_t number = -1;

	pthread_mutex_lock(&f->lock);
	while (!atomic_load(&f->halt) && f->next < f->n_ranges && f->next - f->front >= WINDOW)
		pthread_cond_wait(&f->change, &f->lock);
	if (!atomic_load(&f->halt) && f->next < f->n_ranges) {
		number = f->next++;
		f->done[number % WINDOW] = 0;
	}
	pthread_mutex_unlock(&f->lock);
	return number;
}

static void *
helper(void *arg)
{
	struct fetch *f = arg;
	char *block = xmalloc(BLOCK_BYTES);
	struct err e = {.code = 0};
	int64_t number;
	int rc = 0;

	while (rc == 0 && (number = claim(f)) >= 0) {
		struct range r = {.f = f, .number = number, .offset = number * f->range_bytes, .len = range_len(f, number, 1),
		    .block = block, .ahead = true};

		rc = get_range(&r, take_ahead, &f->halt, &e);
		begin_writeback(f, r.offset, r.len);
	}
	if (rc != 0)
		fail(f, rc, &e);
	free(block);
	return NULL;
}

/* Nanoseconds that the calling thread was neither running nor ready to run until now: it waited for bytes. */
static int64_t
idle_ns(void)
{
	struct timespec wall, cpu;
	int64_t queued_ns = 0, ran_ns;
	FILE *file = fopen("/proc/thread-self/schedstat", "re"); /* run time, time in the queue, slices */

	if (file != NULL) {
		if (fscanf(file, "%" SCNd64 " %" SCNd64, &ran_ns, &queued_ns) != 2)
			queued_ns = 0;
		fclose(file);
	}
	clock_gettime(CLOCK_MONOTONIC, &wall);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
	return (wall.tv_sec - cpu.tv_sec) * 1000000000LL + wall.tv_nsec - cpu.tv_nsec - queued_ns;
}

/* One more connection helps where the calling thread waits for bytes most of the time. Where it does not, the network is not
 * what limits, and more threads would only cost: a processor's cache, and turns at the file's lock. */
static void
probe(struct fetch *f)
{
	int64_t now_mono_ms, idle;
	bool more;

	if (f->n_helpers == f->max_helpers || (now_mono_ms = clock_mono_ms()) - f->probed_mono_ms < PROBE_MS)
		return;
	idle = idle_ns();
	pthread_mutex_lock(&f->lock);
	more = f->next < f->n_ranges;
	pthread_mutex_unlock(&f->lock);
	if (f->probed_mono_ms != 0 && more &&
	    (idle - f->idle_ns) * 100 > (now_mono_ms - f->probed_mono_ms) * 1000000 * BLOCKED_PERCENT &&
	    thread_try(&f->helpers[f->n_helpers], "fetch", helper, f) == 0) /* without another it goes on as it did */
		f->n_helpers++;
	f->probed_mono_ms = now_mono_ms;
	f->idle_ns = idle;
}

/* --- the calling thread --- */

static int
take_front(void *arg, const void *data, size_t len)
{
	struct range *r = arg;
	struct fetch *f = r->f;
	int rc;

	if (atomic_load(&f->halt))
		return ERR_CANCELED; /* a helper failed */
	if (r->number == 0 && r->done == 0 && r->block_len == 0) {
		if (r->info.size_bytes != f->size_bytes)
			return wrong_size(r, &r->e);
		f->info = r->info;
	}
	rc = take_bytes(r, data, len);
	probe(f);
	return rc;
}

/* Fetches and hashes ranges that nobody has taken. */
static int
stream(struct fetch *f, int64_t number, int64_t n, struct err *e)
{
	struct range r = {.f = f, .number = number, .offset = number * f->range_bytes, .len = range_len(f, number, n),
	    .block = f->pipe != NULL ? hash_pipe_block(f->pipe) : f->block};
	int rc = get_range(&r, take_front, f->stop, e);

	if (rc == 0 && r.len == 0) /* nothing came that would have told before */
		f->info = r.info;
	begin_writeback(f, r.offset, r.len);
	return rc;
}

static int
hash_piece(struct fetch *f, int64_t from, int64_t to, struct err *e)
{
	if (f->pipe != NULL)
		hash_pipe_drain(f->pipe);
	while (from < to) {
		ssize_t n = pread(f->fd, f->block, to - from < (int64_t)BLOCK_BYTES ? (size_t)(to - from) : BLOCK_BYTES, from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(e, ERR_IO, "read what was fetched: %s", n < 0 ? strerror(errno) : "it is cut short");
		sha256_add(f->digest, f->block, (size_t)n);
		from += n;
	}
	return 0;
}

/* Waits until more than `hashed` bytes of a helper's range are there. Returns how many, or what ended the fetch. */
static int64_t
await_more(struct fetch *f, int64_t number, int64_t hashed, struct err *e)
{
	int64_t done;

	pthread_mutex_lock(&f->lock);
	while ((done = f->rc != 0 ? f->rc : f->done[number % WINDOW]) >= 0 && done <= hashed) {
		if (f->stop != NULL && atomic_load(f->stop)) {
			f->rc = err_set(&f->e, ERR_CANCELED, "stopped while fetching %s/%.200s", f->bucket, f->key);
			continue;
		}
		(void)cond_wait_until(&f->change, &f->lock, clock_mono_ms() + STOP_POLL_MS);
	}
	if (done < 0)
		*e = f->e;
	pthread_mutex_unlock(&f->lock);
	return done;
}

/* Hashes a helper's range as its bytes come. */
static int
follow(struct fetch *f, int64_t number, struct err *e)
{
	int64_t offset = number * f->range_bytes, len = range_len(f, number, 1), hashed = 0;
	int rc = 0;

	while (hashed < len && rc == 0) {
		int64_t done = await_more(f, number, hashed, e);

		rc = done < 0 ? (int)done : hash_piece(f, offset + hashed, offset + done, e);
		hashed = done;
		probe(f);
	}
	return rc;
}

/* Without any transfer, where the store is on the same disk and its file system can. */
static int
share_blocks(struct fetch *f, bool *ret_done, struct err *e)
{
	struct range r = {.f = f};
	int rc = 0;

	*ret_done = false;
	if (f->s->ops->clone == NULL)
		return 0;
	rc = f->s->ops->clone(f->s, f->bucket, f->key, f->fd, &r.info, ret_done, e);
	if (rc == 0 && r.info.size_bytes != f->size_bytes)
		rc = wrong_size(&r, e);
	if (rc == 0 && *ret_done)
		rc = hash_piece(f, 0, f->size_bytes, e);
	f->info = r.info;
	return rc;
}

/* Moves the front to the next range. Returns how many ranges from there are the calling thread's own, 0: a helper's. Without
 * helpers it asks for more and more at a time, because each request costs a turn; with them they shall find something to do. */
static int64_t
advance(struct fetch *f, int64_t number)
{
	int64_t n = 0;

	pthread_mutex_lock(&f->lock);
	f->front = number;
	if (f->next == number) {
		n = f->n_helpers > 0 ? 1 : f->span;
		if (n > f->n_ranges - number)
			n = f->n_ranges - number;
		f->next = number + n;
		if (2 * f->span * f->range_bytes <= SPAN_MAX_BYTES)
			f->span *= 2;
	}
	pthread_cond_broadcast(&f->change);
	pthread_mutex_unlock(&f->lock);
	return n;
}

static void
join_helpers(struct fetch *f, int rc, const struct err *e)
{
	if (rc != 0)
		fail(f, rc, e);
	for (unsigned i = 0; i < f->n_helpers; i++)
		pthread_join(f->helpers[i], NULL);
}

static int
fetch_once(struct fetch *f, uint8_t sha256[SHA256_LEN], struct err *e)
{
	int64_t n, number = 0;
	bool shared;
	int rc = prepare_file(f, e);

	if (rc != 0)
		return rc;
	f->n_ranges = f->size_bytes > 0 ? (f->size_bytes + f->range_bytes - 1) / f->range_bytes : 1;
	f->span = 1;
	f->digest = sha256_new();
	f->block = xmalloc(BLOCK_BYTES);
	pthread_mutex_init(&f->lock, NULL);
	cond_init_mono(&f->change);
	rc = share_blocks(f, &shared, e);
	if (rc == 0 && !shared && f->n_ranges > 1)
		f->pipe = hash_pipe_new(f->digest);
	for (; !shared && number < f->n_ranges && rc == 0; number += n > 0 ? n : 1)
		rc = (n = advance(f, number)) > 0 ? stream(f, number, n, e) : follow(f, number, e);
	join_helpers(f, rc, e);
	hash_pipe_free(f->pipe);
	/* A helper's failure is what interrupted us; or its bytes were all there, but their answer ended otherwise than it began. */
	if (f->rc != 0) {
		rc = f->rc;
		*e = f->e;
	}
	if (rc == 0)
		sha256_end(f->digest, sha256);
	else
		sha256_free(f->digest);
	pthread_cond_destroy(&f->change);
	pthread_mutex_destroy(&f->lock);
	free(f->block);
	return rc;
}

int
store_fetch(struct object_store *s, const char *bucket, const char *key, int fd, int64_t size_bytes,
    const struct fetch_options *o, uint8_t sha256[SHA256_LEN], struct object_info *ret_info, const atomic_bool *stop,
    struct err *e)
{
	static const struct fetch_options defaults;
	struct err mine = {.code = 0};
	unsigned parallel;
	int rc = ERR_CONFLICT;

	if (o == NULL)
		o = &defaults;
	assert(size_bytes >= 0 && o->parallel <= STORE_PARALLEL_MAX);
	parallel = o->parallel > 0 ? o->parallel : s->limits.fetch_parallel;
	for (int tries = 0; rc == ERR_CONFLICT && tries <= FETCH_RESTARTS; tries++) {
		struct fetch f = {.s = s, .bucket = bucket, .key = key, .fd = fd, .size_bytes = size_bytes, .durable = o->durable,
		    .range_bytes = (int64_t)(o->range_bytes > 0 ? o->range_bytes : s->limits.fetch_range_bytes),
		    .max_helpers = parallel - 1, .stop = stop};

		rc = fetch_once(&f, sha256, &mine);
		if (rc == 0 && ret_info != NULL)
			*ret_info = f.info;
	}
	if (rc == ERR_CONFLICT)
		rc = err_set(&mine, ERR_RETRY, "%s/%.200s changes faster than it can be read", bucket, key);
	if (rc != 0 && e != NULL)
		*e = mine;
	return rc;
}
