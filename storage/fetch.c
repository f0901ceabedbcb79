#include "storage/fetch.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

#define BLOCK_BYTES ((size_t)256 * 1024)
#define WINDOW 64          /* ranges that may be ahead of the hashing, the ones in flight included */
#define STOP_POLL_MS 100

struct fetch {
	struct object_store *s;
	const char *bucket, *key;
	int fd;
	int64_t size_bytes, range_bytes, n_ranges;
	bool durable;
	const atomic_bool *stop; /* the caller's */
	atomic_bool halt;        /* the stop flag of the ranges: failed or stopped */

	pthread_mutex_t lock;    /* of all below */
	pthread_cond_t change;   /* done of the front range, front, known, rc */
	int64_t next, front;     /* range to take next; range that is being hashed */
	int64_t done[WINDOW];    /* bytes of range i that are in the file, at i % WINDOW */
	bool known;              /* info is: others than the first may begin */
	struct object_info info;
	int rc;                  /* first failure */
	struct err e;
};

struct range { /* one in flight */
	struct fetch *f;
	struct sha256 *digest;   /* one request in all: hashed in passing; else NULL */
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

/* --- ranges --- */

/* The first answer tells size and etag, for all. */
static int
check_size(const struct range *r, struct err *e)
{
	if (r->info.size_bytes == r->f->size_bytes)
		return 0;
	return err_set(e, ERR_INVALID, "the object has %lld bytes, %lld were promised", (long long)r->info.size_bytes,
	    (long long)r->f->size_bytes);
}

static int
begin_others(struct range *r)
{
	struct fetch *f = r->f;
	int rc = check_size(r, &r->e);

	if (rc != 0)
		return rc;
	pthread_mutex_lock(&f->lock);
	f->info = r->info;
	f->known = true;
	pthread_cond_broadcast(&f->change);
	pthread_mutex_unlock(&f->lock);
	return 0;
}

/* Writes the block and tells the one who hashes. Writers of one file exclude each other in the kernel: few large writes. */
static int
write_block(struct range *r)
{
	struct fetch *f = r->f;
	int rc = write_at(f->fd, r->block, r->block_len, r->offset + r->done, &r->e);

	if (rc != 0)
		return rc;
	r->done += (int64_t)r->block_len;
	r->block_len = 0;
	pthread_mutex_lock(&f->lock);
	f->done[r->number % WINDOW] = r->done;
	if (r->number == f->front)
		pthread_cond_broadcast(&f->change);
	pthread_mutex_unlock(&f->lock);
	return 0;
}

static int
take_bytes(void *arg, const void *data, size_t len)
{
	struct range *r = arg;
	const char *p = data;
	int rc = 0;

	if (r->done == 0 && r->block_len == 0 && r->number == 0)
		rc = begin_others(r);
	while (rc == 0 && len > 0) {
		size_t room = BLOCK_BYTES - r->block_len, n = len < room ? len : room;

		memcpy(r->block + r->block_len, p, n);
		r->block_len += n;
		p += n;
		len -= n;
		if (r->block_len == BLOCK_BYTES || r->done + (int64_t)r->block_len == r->len)
			rc = write_block(r);
	}
	return rc;
}

/* All bytes by one request. */
static int
take_and_hash(void *arg, const void *data, size_t len)
{
	struct range *r = arg;
	int rc = r->done == 0 ? check_size(r, &r->e) : 0;

	if (rc == 0 && (int64_t)len > r->len - r->done)
		rc = err_set(&r->e, ERR_INVALID, "the object is larger than the %lld bytes that were promised",
		    (long long)r->f->size_bytes);
	if (rc == 0)
		rc = write_at(r->f->fd, data, len, r->done, &r->e);
	if (rc == 0) {
		sha256_add(r->digest, data, len);
		r->done += (int64_t)len;
	}
	return rc;
}

static int
fetch_range(struct fetch *f, int64_t number, char *block, struct err *e)
{
	struct range r = {.f = f, .number = number, .offset = number * f->range_bytes, .len = f->range_bytes, .block = block};
	const char *etag = number == 0 ? NULL : f->info.etag; /* info no longer changes */
	int rc;

	if (r.len > f->size_bytes - r.offset)
		r.len = f->size_bytes - r.offset;
	rc = store_get(f->s, f->bucket, f->key, r.offset, r.len, etag, take_bytes, &r, &r.info, &f->halt, e);
	if (r.e.code != 0) {
		*e = r.e;
		return r.e.code;
	}
	if (rc == 0 && r.done < r.len)
		rc = check_size(&r, e);
	/* Not every server heeds If-Match. */
	if (rc == 0 && (r.done < r.len || strcmp(r.info.etag, f->info.etag) != 0))
		rc = err_set(e, ERR_CONFLICT, "%s/%.200s has changed", f->bucket, f->key);
	if (rc == 0 && f->durable)
		(void)sync_file_range(f->fd, r.offset, r.len, SYNC_FILE_RANGE_WRITE);
	return rc;
}

static void
fail(struct fetch *f, int rc, const struct err *e)
{
	pthread_mutex_lock(&f->lock);
	if (f->rc == 0) {
		f->rc = rc;
		f->e = *e;
		atomic_store(&f->halt, true);
	}
	pthread_cond_broadcast(&f->change);
	pthread_mutex_unlock(&f->lock);
}

/* The next range to fetch, -1 if there is none left; waits until the first answer is there and hashing has kept up. */
static int64_t
claim(struct fetch *f)
{
	int64_t number = -1;

	pthread_mutex_lock(&f->lock);
	while (f->rc == 0 && f->next < f->n_ranges &&
	    ((f->next > 0 && !f->known) || f->next - f->front >= WINDOW))
		pthread_cond_wait(&f->change, &f->lock);
	if (f->rc == 0 && f->next < f->n_ranges) {
		number = f->next++;
		f->done[number % WINDOW] = 0;
	}
	pthread_mutex_unlock(&f->lock);
	return number;
}

static void *
fetcher(void *arg)
{
	struct fetch *f = arg;
	char *block = xmalloc(BLOCK_BYTES);
	struct err e = {.code = 0};
	int64_t number;
	int rc = 0;

	while (rc == 0 && (number = claim(f)) >= 0)
		rc = fetch_range(f, number, block, &e);
	if (rc != 0)
		fail(f, rc, &e);
	free(block);
	return NULL;
}

/* --- hashing --- */

static int
hash_piece(const struct fetch *f, struct sha256 *digest, char *block, int64_t from, int64_t to, struct err *e)
{
	while (from < to) {
		ssize_t n = pread(f->fd, block, to - from < (int64_t)BLOCK_BYTES ? (size_t)(to - from) : BLOCK_BYTES, from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(e, ERR_IO, "read what was fetched: %s", n < 0 ? strerror(errno) : "it is cut short");
		sha256_add(digest, block, (size_t)n);
		from += n;
	}
	return 0;
}

/* Waits until more than `hashed` bytes of the front range are there. Returns how many, or what ended the fetch. */
static int64_t
await_front(struct fetch *f, int64_t hashed, struct err *e)
{
	struct timespec until;
	int64_t done;

	pthread_mutex_lock(&f->lock);
	while (true) {
		if (f->stop != NULL && atomic_load(f->stop) && f->rc == 0) {
			f->rc = err_set(&f->e, ERR_CANCELED, "stopped while fetching %s/%.200s", f->bucket, f->key);
			atomic_store(&f->halt, true);
			pthread_cond_broadcast(&f->change);
		}
		done = f->rc != 0 ? f->rc : f->next > f->front ? f->done[f->front % WINDOW] : 0;
		if (done < 0 || done > hashed)
			break;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += STOP_POLL_MS * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		pthread_cond_timedwait(&f->change, &f->lock, &until);
	}
	if (done < 0)
		*e = f->e;
	pthread_mutex_unlock(&f->lock);
	return done;
}

/* Hashes range after range as its bytes come. */
static int
follow(struct fetch *f, struct sha256 *digest, struct err *e)
{
	char *block = xmalloc(BLOCK_BYTES);
	int rc = 0;

	for (int64_t number = 0; number < f->n_ranges && rc == 0; number++) {
		int64_t offset = number * f->range_bytes, hashed = 0;
		int64_t len = f->range_bytes < f->size_bytes - offset ? f->range_bytes : f->size_bytes - offset;

		while (hashed < len && rc == 0) {
			int64_t done = await_front(f, hashed, e);

			rc = done < 0 ? (int)done : hash_piece(f, digest, block, offset + hashed, offset + done, e);
			hashed = done;
		}
		pthread_mutex_lock(&f->lock);
		f->front = number + 1;
		pthread_cond_broadcast(&f->change);
		pthread_mutex_unlock(&f->lock);
	}
	free(block);
	return rc;
}

/* --- the whole --- */

static int
fetch_parallel(struct fetch *f, unsigned parallel, struct sha256 *digest, struct err *e)
{
	pthread_t threads[STORE_PARALLEL_MAX];
	unsigned n = 0;
	sigset_t all, before;
	int rc, failed = 0;

	/* Signals are for the program's own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (n < parallel && n < f->n_ranges && (failed = pthread_create(&threads[n], NULL, fetcher, f)) == 0)
		n++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	rc = n > 0 ? follow(f, digest, e) : err_set(e, ERR_RETRY, "no thread to fetch with: %s", strerror(failed));
	if (rc != 0 && n > 0)
		fail(f, rc, e);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	/* The last range may be whole in the file and yet wrong: its answer ended otherwise than it began. */
	if (rc == 0 && f->rc != 0) {
		rc = f->rc;
		*e = f->e;
	}
	return rc;
}

static int
fetch_in_one(struct fetch *f, struct sha256 *digest, struct err *e)
{
	struct range r = {.f = f, .len = f->size_bytes, .digest = digest};
	int rc = store_get(f->s, f->bucket, f->key, 0, -1, NULL, take_and_hash, &r, &r.info, f->stop, e);

	if (r.e.code != 0) {
		*e = r.e;
		return r.e.code;
	}
	if (rc == 0 && r.done != f->size_bytes)
		rc = check_size(&r, e);
	f->info = r.info;
	return rc;
}

static int
fetch_once(struct fetch *f, unsigned parallel, uint8_t sha256[SHA256_LEN], struct err *e)
{
	struct sha256 *digest = sha256_new();
	pthread_condattr_t attr;
	int rc;

	pthread_mutex_init(&f->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&f->change, &attr);
	pthread_condattr_destroy(&attr);
	f->n_ranges = (f->size_bytes + f->range_bytes - 1) / f->range_bytes;
	rc = f->n_ranges > 1 ? fetch_parallel(f, parallel, digest, e) : fetch_in_one(f, digest, e);
	if (rc == 0)
		sha256_end(digest, sha256);
	else
		sha256_free(digest);
	pthread_cond_destroy(&f->change);
	pthread_mutex_destroy(&f->lock);
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
		    .range_bytes = (int64_t)(o->range_bytes > 0 ? o->range_bytes : s->limits.fetch_range_bytes), .stop = stop};

		if ((rc = prepare_file(&f, &mine)) == 0)
			rc = fetch_once(&f, parallel, sha256, &mine);
		if (rc == 0 && ret_info != NULL)
			*ret_info = f.info;
	}
	if (rc == ERR_CONFLICT)
		rc = err_set(&mine, ERR_RETRY, "%s/%.200s changes faster than it can be read", bucket, key);
	if (rc != 0 && e != NULL)
		*e = mine;
	return rc;
}
