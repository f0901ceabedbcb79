/* buckets.h - the three buckets of the object store: made when they are first needed, claimed for this ledger, under rules for what is
 * old, and the one place where objects are removed.
 * Everything here blocks and is for worker threads, but for what says otherwise; several may call at once. */
#ifndef DISPATCHER_BUCKETS_H
#define DISPATCHER_BUCKETS_H

#include <stdatomic.h>

#include "dispatcher/dispatcher.h"
#include "storage/store_upkeep.h"

struct buckets;

enum bucket_role { BUCKET_TARGETS, BUCKET_RESULTS, BUCKET_TOOLBOX, BUCKETS };

#define BUCKET_OWN_PREFIX "drover/" /* keys that are no target, result or bundle: claims and probes */
#define BUCKET_STAGING_PREFIX "staging/"

/* Talks to nobody yet. */
struct buckets *buckets_new(struct dispatcher *d);

/* No thread may use it any more. NULL is allowed. */
void buckets_free(struct buckets *b);

/* The bucket's name; "targets", "results", "toolbox". Any thread. */
const char *buckets_name(const struct buckets *b, enum bucket_role role);
const char *bucket_role_word(enum bucket_role role);

/* Makes the buckets that are not there; returns at once when that was done before. What store_ensure_bucket returns: within its
 * bounds a caller waits for a store that is just coming up. */
int buckets_make(struct buckets *b, struct err *e);

/* --- rules --- */

/* The bucket's rule as it shall be now: never shorter than what is promised, a day longer than the settings. False for the toolbox,
 * whose bundles have no time. */
bool buckets_rule(struct buckets *b, enum bucket_role role, struct lifecycle_rule *ret, struct err *e);

/* Sees to it that the store removes old objects by itself, after our own clock would have: reads the rules, writes them where they
 * differ, reads them back. A store without rules is fine. What is not as it shall be is kept for buckets_alarm and is no failure:
 * 0, or ERR_RETRY with the store away. */
int buckets_set_rules(struct buckets *b, struct err *e);

/* What is wrong with the rules, "" nothing. Any thread, does not block. */
void buckets_alarm(struct buckets *b, char *out, size_t len);

/* --- whose the buckets are --- */

struct bucket_claim {
	int64_t since_real_ms;  /* this ledger's */
	char other[37];         /* uuid of another ledger that used the bucket within the last days, "" none */
	int64_t other_real_ms;  /* when */
};

/* Says in the bucket that this ledger uses it, and looks who else does. Nothing may be removed for want of a row before the claim has
 * stood for the grace (the bucket may be the wrong one, or the ledger an old one), nor where another ledger's rows may stand for it. */
int buckets_claim(struct buckets *b, enum bucket_role role, struct bucket_claim *ret, struct err *e);
bool buckets_claim_holds(const struct buckets *b, const struct bucket_claim *c, int64_t now_real_ms);

/* --- objects under way --- */

/* From before its bytes are sent until its row is committed an object is held: it is not removed meanwhile. Waits for a removal of it
 * that is under way. `name` is the target's id or the staging key. let_go: any thread, does not block. */
void buckets_hold(struct buckets *b, const char *name);
void buckets_let_go(struct buckets *b, const char *name);

/* Dates a target's object anew, by a copy onto itself: it counts from now for the bucket's rule. ERR_NOTFOUND: there is none. */
int buckets_redate_target(struct buckets *b, const char *id, struct err *e);

/* --- removing; old versions go too --- */

/* Removes an object. Where old versions cannot be removed for want of rights, the object is hidden and buckets_alarm tells. */
int buckets_remove(struct buckets *b, enum bucket_role role, const char *key, struct err *e);

/* Removes a target's object unless it is held or a row stands for it again. *ret_gone (may be NULL): whether it was. */
int buckets_remove_target(struct buckets *b, const char *id, bool *ret_gone, struct err *e);

/* Removes what an upload left under its staging key, unless it is held. */
int buckets_remove_staging(struct buckets *b, const char *key, bool *ret_gone, struct err *e);

/* Removes an object unless it was stored or dated anew since before_real_ms. Returns 0, also where it stays, or as the store. */
int buckets_remove_old(struct buckets *b, enum bucket_role role, const char *key, int64_t before_real_ms, struct err *e);

/* Removes all results of a run. */
int buckets_remove_results(struct buckets *b, const char *run, struct err *e);

struct stale_uploads {
	int64_t found;   /* ours, begun before the time, no part since */
	int64_t aborted;
	int64_t flying;  /* begun before it, but still coming in */
};

/* Aborts unfinished multipart uploads of our keys that nobody has added to for the time of STALE_UPLOADS; dry: only counts. */
int buckets_stale_uploads(struct buckets *b, enum bucket_role role, int64_t now_real_ms, bool dry, const atomic_bool *stop,
    struct stale_uploads *ret, struct err *e);

/* Whether a key can be of Drover's making in that bucket. Pure. */
bool bucket_key_ours(enum bucket_role role, const char *key);

/* The first folder of a key, which names the target or the run; "" where it does not fit. Pure. */
void bucket_key_owner(const char *key, char *out, size_t len);

#endif
