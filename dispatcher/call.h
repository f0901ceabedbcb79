/* call.h - one HTTP request while it waits: for the core, for a read in a thread, for an event. Loop thread.
 *
 * A call is made by a handler and ends with exactly one of the call_reply functions or call_end. The client may go away at any
 * time: then `r` is NULL and replies say nothing, but the call still lives until whoever works on it lets go.
 */
#ifndef DISPATCHER_CALL_H
#define DISPATCHER_CALL_H

#include <jansson.h>

#include "dispatcher/dispatcher.h"

struct call {
	struct dispatcher *d;
	struct http_req *r;      /* NULL: the client is gone */
	struct identity who;
	uint64_t number;         /* by which the core knows it; 0: it does not */
	void (*answered)(struct call *c, const struct answer *a);
	void *data;              /* of the handler; freed with the call by data_free */
	void (*data_free)(void *data);
	void (*gone)(struct call *c); /* told that the client went away; where nobody holds the call it must end it. NULL: it just ends */
	bool held;               /* a thread or a list works on it: the client's leaving does not end it */
	uint64_t index;           /* of the last event before its work in a thread began: what was read there is not older; 0: none */
	int (*run)(struct dispatcher *d, void *data, struct err *e);
	void (*done)(struct call *c);
	int rc;                  /* of run */
	struct err err;          /* of run */
	bool duplicate, missing; /* a submission that the ledger refused */
	struct call *next, *prev; /* of all calls */
};

/* The set of open calls. */
struct calls *calls_new(void);

/* No call may be left. NULL is allowed. */
void calls_free(struct calls *cs);

/* A call for a request, with zeroed data of data_size bytes (0: none). */
struct call *call_new(struct dispatcher *d, struct http_req *r, size_t data_size, void (*data_free)(void *data));

/* A call without a client, for one of the many things that another call asks for; the same caller's. */
struct call *call_part(const struct call *whole, size_t data_size, void (*data_free)(void *data));

/* NULL where the caller may see every tenant's things, else its tenant. */
const char *call_tenant(const struct call *c);

/* Makes it known to the core: the number to give it; answered is called with what it says, and then must end the call. */
uint64_t call_core(struct call *c, void (*answered)(struct call *c, const struct answer *a));

/* The call that the core knows by a number, NULL when it is gone; the core does not know it any more. */
struct call *call_of_core(struct dispatcher *d, uint64_t number);

/* Runs run(d, data) in a thread of the pool, then done(call) here with rc and err set. run may touch constant parts of *d only. */
void call_work(struct call *c, struct work_pool *pool, int (*run)(struct dispatcher *d, void *data, struct err *e),
    void (*done)(struct call *c));

/* Answers and ends the call. body is taken. `index` adds X-Drover-Index. */
void call_reply(struct call *c, int status, json_t *body);
void call_reply_indexed(struct call *c, int status, json_t *body);

/* The same for an answer that is written as text: the buffer, empty, to be filled with JSON at once; then it is sent (indexed: with
 * X-Drover-Index), which ends the call. No other answer may be made in between. */
struct buf *call_answer(struct call *c);
void call_reply_written(struct call *c, int status, bool indexed);

/* Answers with an error, which ends the call. */
void call_reply_err(struct call *c, const struct err *e);

/* Ends a call that needs no answer any more (it was answered through r, or the client is gone). */
void call_end(struct call *c);

/* Answers every call that waits for the core or an event with 503: the dispatcher stops. */
void calls_dismiss(struct dispatcher *d);

/* Ends every call without an answer; no thread works on one any more. */
void calls_drop(struct dispatcher *d);

/* A value of the body: a table says what a request may hold; other keys are refused. */
enum field_kind { FIELD_TEXT, FIELD_INT, FIELD_BOOL, FIELD_OBJECT, FIELD_ARRAY, FIELD_TIME };
struct field {
	const char *name;
	enum field_kind kind;
	size_t offset;      /* of const char *, int64_t, bool, json_t * (borrowed; NULL for absent or null), int64_t real ms */
	bool required;
	int64_t min, max;   /* of integers; of texts: bytes */
};

/* Parses the request's body as a JSON object (an empty body is {} ) and fills *into. *ret_body owns the values: json_decref it. */
int call_body(struct call *c, const struct field *fields, size_t n, void *into, json_t **ret_body, struct err *e);

/* The same for a JSON object inside. */
int fields_read(json_t *o, const struct field *fields, size_t n, void *into, struct err *e);

/* A query parameter as a number (def when absent), within bounds; as a duration of at most max_ms. */
int call_query_int(const struct call *c, const char *name, int64_t def, int64_t min, int64_t max, int64_t *ret, struct err *e);
int call_query_duration(const struct call *c, const char *name, int64_t max_ms, int64_t *ret_ms, struct err *e);

/* An id or a prefix of one from the path: at least four characters of [a-z0-9_-]. */
int call_id(const struct call *c, const char *param, const char **ret, struct err *e);

/* Time as text, null for 0. */
json_t *json_time(int64_t real_ms);

/* A text that was made by cutting others or that a server said: bytes that are not UTF-8 become '?'. json_string and "s" of
 * json_pack refuse such a text, and with it the whole answer. */
json_t *json_text(const char *s);

#endif
