/* buckets_priv.h - what buckets.c and buckets_rules.c share. */
#ifndef DISPATCHER_BUCKETS_PRIV_H
#define DISPATCHER_BUCKETS_PRIV_H

#include <pthread.h>

#include "dispatcher/buckets.h"

struct buckets {
	struct dispatcher *d;
	pthread_mutex_t making;    /* whoever makes the buckets; the others wait */
	bool made;
	pthread_mutex_t lock;      /* of all below */
	pthread_cond_t removed;
	struct map *held;          /* name -> count */
	struct map *removing;      /* name -> anything */
	bool versioned[BUCKETS];
	bool versions_stay[BUCKETS]; /* they cannot be removed: no right */
	char alarm[BUCKETS][200];
};

/* Notes what is wrong with a bucket's rules, NULL: nothing. */
void buckets_set_alarm(struct buckets *b, enum bucket_role role, const char *text);

#endif
