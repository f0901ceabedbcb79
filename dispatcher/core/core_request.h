/* core_request.h - requests for capacity as the core knows them, and what Nomad says about their children. Private to the core. */
#ifndef DISPATCHER_CORE_CORE_REQUEST_H
#define DISPATCHER_CORE_CORE_REQUEST_H

#include "dispatcher/core/core_priv.h"

struct request {
	struct link all;
	struct request_row row;
	struct vertical *vertical;
	struct txn *txn;
	bool stray;              /* a child of ours that no row stands for: stopped and purged, never written */
	bool calling;            /* dispatch or purge under way */
	bool registered, used, dismissed; /* its worker came; took a run; was told that there is none */
	bool refused, withdraw, ended, gone, purged, inquiring, failed;
	bool ambiguous;          /* a dispatch call failed without a word: the child may exist */
	bool doubt;              /* … and a later one was refused: the next listing tells */
	bool listed, dispatched_before, doubt_before; /* during a listing */
	size_t grants;           /* leases under it, those in commit included */
	struct run *reserved;    /* adopted: the run that waits for its worker */
	bool by_operator;        /* … was stopped by an operator */
	unsigned tries;
	int64_t next_call_mono;  /* back-off of dispatch, stop and purge */
	int64_t ttl_mono;        /* withdrawn unless a worker is there by then */
	int64_t stopped_mono;    /* when the first stop was sent */
	enum child_state child_state;
	bool never;              /* … and no node of today could take it, since never_mono */
	int64_t never_mono;
	bool child_told;
	char why[CORE_CAUSE_MAX];
	struct timer timer;
};

/* --- requests.c --- */

/* The request of that number, or of that child; NULL if there is none (any more). */
struct request *request_get(const struct core *c, uint64_t seq);
struct request *request_of_child(const struct core *c, const char *child);

/* Whether all one-shots on their way to the lane wait for a node that is not there, and nothing else serves it: since when, and Nomad's
 * words. O(requests + workers). */
bool lane_unplaceable(const struct core *c, const struct lane *lane, const char **why, int64_t *since_mono);

/* Gives up the runs of lanes that have been so for longer than the setting allows. */
void placement_look(struct core *c, struct now now, struct vertical *v);

/* A request as its row says; a row without a vertical makes a stray. Counts against the window from here on, unless adopted. */
struct request *request_new(struct core *c, const struct request_row *row);

/* Takes it out of everything and frees it. No lease may be under it; a run reserved for it is let go. */
void request_free(struct core *c, struct request *r);

/* Notes its child, if it has none and no other request has that child. */
void request_set_child(struct core *c, struct request *r, const char *child);

/* Does what is due: writes its row, makes a call, or arms its timer. At any time, as often as one likes; r may be freed (a stray). */
void request_step(struct core *c, struct now now, struct request *r);

/* The commit of its row has ended; r is freed if it is done or never came to be. */
void request_done(struct core *c, struct now now, struct request *r, const struct request_row *next, bool insert, bool ok);

/* Whether it will bring a worker that takes a run: it was asked for, and nothing speaks against it yet. */
bool request_coming(const struct request *r);

/* Its one-shot took a run: the vertical's streak of failed ones is over. */
void request_useful(struct request *r);

/* The lease under it that was being committed was not written. */
void request_unlease(struct core *c, struct now now, uint64_t seq);

/* It came to nothing: counted once, and the next one of the vertical is held back for a while. why: "" takes the request's. */
void request_failed(struct core *c, struct now now, struct request *r, const char *why);

/* Takes it back (not an adopted one): its child is stopped and purged, its worker drained. request_step must follow. */
void request_withdraw(struct core *c, struct now now, struct request *r);

/* Whether a registered worker of the child is there that does not run in that allocation ("": any). */
bool request_has_worker(const struct core *c, const struct request *r, const char *other_than_alloc);

/* --- facts.c --- */

/* Asks Nomad how the child really stands; one question at a time. */
void request_inquire(struct core *c, struct request *r);

#endif
