#include "storage/hash_pipe.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/threads.h"

#define WAKE_AT 4 /* blocks that are worth waking the other thread for: a wake-up costs as much as hashing a tenth of one */

struct hash_pipe {
	struct sha256 *digest;
	pthread_t thread;
	pthread_mutex_t lock;          /* of all below */
	pthread_cond_t more, room;     /* to hash; to fill */
	size_t pushed, hashed;         /* blocks, ever; the block of number i is blocks[i % HASH_PIPE_BLOCKS] */
	bool flush, end;               /* hash also less than WAKE_AT; … and then end */
	size_t len[HASH_PIPE_BLOCKS];
	char *blocks[HASH_PIPE_BLOCKS]; /* made when first needed */
};

static void *
run(void *arg)
{
	struct hash_pipe *p = arg;
	size_t at, n;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (!p->end && p->pushed - p->hashed < (p->flush ? 1 : WAKE_AT))
			pthread_cond_wait(&p->more, &p->lock);
		at = p->hashed;
		n = p->pushed - at;
		if (n == 0 && p->end)
			break;
		pthread_mutex_unlock(&p->lock);
		for (size_t i = at; i < at + n; i++)
			sha256_add(p->digest, p->blocks[i % HASH_PIPE_BLOCKS], p->len[i % HASH_PIPE_BLOCKS]);
		pthread_mutex_lock(&p->lock);
		p->hashed = at + n;
		pthread_cond_signal(&p->room);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

struct hash_pipe *
hash_pipe_new(struct sha256 *digest)
{
	struct hash_pipe *p = xcalloc(1, sizeof(*p));

	p->digest = digest;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->more, NULL);
	pthread_cond_init(&p->room, NULL);
	if (thread_try(&p->thread, "hash", run, p) == 0)
		return p;
	pthread_cond_destroy(&p->room);
	pthread_cond_destroy(&p->more);
	pthread_mutex_destroy(&p->lock);
	free(p);
	return NULL;
}

char *
hash_pipe_block(struct hash_pipe *p)
{
	size_t at = p->pushed % HASH_PIPE_BLOCKS; /* nobody else writes p->pushed */

	pthread_mutex_lock(&p->lock);
	while (p->pushed - p->hashed == HASH_PIPE_BLOCKS)
		pthread_cond_wait(&p->room, &p->lock);
	pthread_mutex_unlock(&p->lock);
	if (p->blocks[at] == NULL)
		p->blocks[at] = xmalloc(HASH_PIPE_BLOCK_BYTES);
	return p->blocks[at];
}

void
hash_pipe_push(struct hash_pipe *p, size_t len)
{
	pthread_mutex_lock(&p->lock);
	p->len[p->pushed % HASH_PIPE_BLOCKS] = len;
	p->pushed++;
	if (p->pushed - p->hashed >= WAKE_AT)
		pthread_cond_signal(&p->more);
	pthread_mutex_unlock(&p->lock);
}

void
hash_pipe_drain(struct hash_pipe *p)
{
	pthread_mutex_lock(&p->lock);
	p->flush = true;
	pthread_cond_signal(&p->more);
	while (p->hashed < p->pushed)
		pthread_cond_wait(&p->room, &p->lock);
	p->flush = false;
	pthread_mutex_unlock(&p->lock);
}

void
hash_pipe_free(struct hash_pipe *p)
{
	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	p->end = true;
	pthread_cond_signal(&p->more);
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->thread, NULL);
	for (size_t i = 0; i < HASH_PIPE_BLOCKS; i++)
		free(p->blocks[i]);
	pthread_cond_destroy(&p->room);
	pthread_cond_destroy(&p->more);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
