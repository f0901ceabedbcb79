#include "dispatcher/watch.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/num.h"

#define WAIT_MAX_MS (5 * 60 * 1000)
#define HEARTBEAT_MS 15000
#define EVENT_TEXT_MAX 4096

struct parked { /* a blocking read */
	struct call *call;
	char run[RUN_ID_MAX];
	struct loop_timer timer;
	void (*resume)(struct call *c);
	struct parked *next, *prev;
};

struct stream {
	struct dispatcher *d;
	struct http_req *r;
	char run[RUN_ID_MAX];       /* "" all */
	char tenant[TENANT_NAME_MAX]; /* "" all */
	uint64_t seen;              /* index of the last event that was looked at */
	bool gap, blocked;
	struct loop_timer timer;
	struct stream *next, *prev;
};

struct watchers {
	struct parked *parked;
	struct stream *streams;
};

struct watchers *
watchers_new(void)
{
	return xcalloc(1, sizeof(struct watchers));
}

void
watchers_free(struct watchers *w)
{
	if (w == NULL)
		return;
	assert(w->parked == NULL && w->streams == NULL);
	free(w);
}

/* --- blocking reads --- */

static void
unpark(struct parked *p)
{
	struct watchers *w = p->call->d->watchers;

	loop_timer_clear(p->call->d->loop, &p->timer);
	if (p->prev != NULL)
		p->prev->next = p->next;
	else
		w->parked = p->next;
	if (p->next != NULL)
		p->next->prev = p->prev;
}

static void
parked_resume(void *arg)
{
	struct parked *p = arg;
	struct call *c = p->call;
	void (*resume)(struct call *) = p->resume;

	unpark(p);
	c->gone = NULL;
	free(p);
	resume(c);
}

static void
parked_gone(struct call *c)
{
	for (struct parked *p = c->d->watchers->parked; p != NULL; p = p->next)
		if (p->call == c) {
			unpark(p);
			free(p);
			break;
		}
	call_end(c);
}

int
watch_park(struct call *c, const char *run, void (*resume)(struct call *c), bool *ret_parked, struct err *e)
{
	struct watchers *w = c->d->watchers;
	int64_t index = -1, wait_ms = 0;
	struct parked *p;
	int rc;

	*ret_parked = false;
	if ((rc = call_query_int(c, "index", -1, 0, INT64_MAX, &index, e)) != 0 ||
	    (rc = call_query_duration(c, "wait", WAIT_MAX_MS, &wait_ms, e)) != 0)
		return rc;
	/* An index of the future is one of another ledger: answer at once, so that the client starts anew. */
	if (index < 0 || wait_ms == 0 || (uint64_t)index > events_index(c->d->events) || c->d->stopping)
		return 0;
	if (run == NULL ? (uint64_t)index < events_index(c->d->events) : events_changed(c->d->events, (uint64_t)index, run))
		return 0;
	p = xcalloc(1, sizeof(*p));
	p->call = c;
	p->resume = resume;
	snprintf(p->run, sizeof(p->run), "%s", run == NULL ? "" : run);
	p->next = w->parked;
	if (p->next != NULL)
		p->next->prev = p;
	w->parked = p;
	c->gone = parked_gone;
	loop_timer_set(c->d->loop, &p->timer, clock_mono_ms() + wait_ms, parked_resume, p);
	*ret_parked = true;
	return 0;
}

/* --- event streams --- */

static void
stream_end(struct stream *s, bool answered)
{
	struct watchers *w = s->d->watchers;

	loop_timer_clear(s->d->loop, &s->timer);
	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		w->streams = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
	if (!answered) {
		http_on_gone(s->r, NULL, NULL);
		http_stream_end(s->r);
	}
	free(s);
}

static void
stream_gone(void *arg)
{
	stream_end(arg, true);
}

static json_t *
event_json(const struct event *ev)
{
	char at[CLOCK_TEXT_LEN];

	return json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:i, s:o}", "index", (json_int_t)ev->index, "at",
	    clock_text(ev->at_real_ms, at), "run", ev->run, "workflow", ev->workflow, "tenant", ev->tenant, "state",
	    run_state_word(ev->state), "attempt", (int)ev->attempt, "reason", json_text(ev->reason));
}

/* Writes one event; false when the queue is full (it is offered again when there is room). */
static bool
stream_send(struct stream *s, const char *name, uint64_t index, json_t *data)
{
	struct buf b = buf_make(EVENT_TEXT_MAX);
	char *text = json_dumps(data, JSON_COMPACT | JSON_ENSURE_ASCII);
	int rc;

	buf_addf(&b, "event: %s\n", name);
	if (index > 0)
		buf_addf(&b, "id: %llu\n", (unsigned long long)index);
	buf_addf(&b, "data: %s\n\n", text == NULL ? "{}" : text);
	rc = http_stream_write(s->r, buf_str(&b), b.len);
	free(text);
	json_decref(data);
	buf_release(&b);
	return rc != ERR_RETRY;
}

static bool
stream_wants(const struct stream *s, const struct event *ev)
{
	return (s->run[0] == '\0' || strcmp(s->run, ev->run) == 0) && (s->tenant[0] == '\0' || strcmp(s->tenant, ev->tenant) == 0);
}

/* Sends what is new; ends the stream after the final event of its run (true: it ended). */
static bool
stream_pump(struct stream *s)
{
	const struct event *ev;
	bool gap;

	s->blocked = false;
	while ((ev = events_after(s->d->events, s->seen, &gap)) != NULL) {
		if (gap && s->run[0] == '\0' && !s->gap) {
			s->gap = true;
			if (!stream_send(s, "gap", 0, json_pack("{s:I}", "index", (json_int_t)ev->index))) {
				s->gap = false;
				s->blocked = true;
				return false;
			}
		}
		if (stream_wants(s, ev)) {
			if (!stream_send(s, "run", ev->index, event_json(ev))) {
				s->blocked = true;
				return false;
			}
			if (s->run[0] != '\0' && run_state_final(ev->state)) {
				stream_end(s, false);
				return true;
			}
		}
		s->seen = ev->index;
		s->gap = false;
	}
	return false;
}

static void
stream_room(struct http_req *r, void *arg)
{
	(void)r;
	stream_pump(arg);
}

static void
stream_beat(void *arg)
{
	struct stream *s = arg;

	http_stream_write(s->r, ": alive\n\n", 9);
	loop_timer_set(s->d->loop, &s->timer, clock_mono_ms() + HEARTBEAT_MS, stream_beat, s);
}

/* Tells the end of a run that is over from its row, and ends. */
static void
stream_last(struct stream *s, const struct run_row *last)
{
	struct event ev = {.index = events_index(s->d->events), .at_real_ms = last->finished_real_ms, .state = last->state,
		.attempt = last->attempt, .reason = (char *)last->reason};

	memcpy(ev.run, last->id, sizeof(ev.run));
	memcpy(ev.workflow, last->workflow, sizeof(ev.workflow));
	memcpy(ev.tenant, last->tenant, sizeof(ev.tenant));
	stream_send(s, "run", ev.index, event_json(&ev));
	stream_end(s, false);
}

/* Where to begin: after Last-Event-ID or ?index=; else a run's stream with all that is known of it, the common one with now. */
static uint64_t
stream_start(const struct call *c, bool of_run)
{
	const char *given = http_header(c->r, "Last-Event-ID");
	int64_t index;

	if (given == NULL)
		given = http_query(c->r, "index");
	if (given != NULL && num_int(given, 0, INT64_MAX, &index, NULL) == 0 &&
	    (uint64_t)index <= events_index(c->d->events))
		return (uint64_t)index;
	return of_run ? 0 : events_index(c->d->events);
}

void
watch_stream(struct call *c, const struct run_row *last)
{
	static const char *const headers[] = {"Cache-Control", "no-store", NULL};
	struct watchers *w = c->d->watchers;
	struct stream *s = xcalloc(1, sizeof(*s));

	s->d = c->d;
	s->r = c->r;
	s->seen = stream_start(c, last != NULL);
	snprintf(s->run, sizeof(s->run), "%s", last == NULL ? "" : last->id);
	snprintf(s->tenant, sizeof(s->tenant), "%s", call_tenant(c) == NULL ? "" : call_tenant(c));
	s->next = w->streams;
	if (s->next != NULL)
		s->next->prev = s;
	w->streams = s;
	call_end(c);
	http_stream_begin(s->r, 200, "text/event-stream", -1, headers, stream_room, s);
	http_on_gone(s->r, stream_gone, s);
	loop_timer_set(s->d->loop, &s->timer, clock_mono_ms() + HEARTBEAT_MS, stream_beat, s);
	/* What the tail does not hold any more must still end the stream of a run that is over. */
	if (!stream_pump(s) && !s->blocked && last != NULL && run_state_final(last->state))
		stream_last(s, last);
}

/* --- telling --- */

void
watch_event(struct dispatcher *d, const struct event *ev)
{
	for (struct parked *p = d->watchers->parked, *next; p != NULL; p = next) {
		next = p->next;
		/* Answers are made in the next turn: many events of one commit then make one answer. */
		if (p->run[0] == '\0' || strncmp(p->run, ev->run, strlen(p->run)) == 0)
			loop_timer_set(d->loop, &p->timer, 0, parked_resume, p);
	}
	for (struct stream *s = d->watchers->streams, *next; s != NULL; s = next) {
		next = s->next;
		if (!s->blocked)
			stream_pump(s);
	}
}

void
watch_progress(struct dispatcher *d, const char *run, const json_t *progress)
{
	for (struct stream *s = d->watchers->streams; s != NULL; s = s->next)
		if (s->run[0] != '\0' && !s->blocked && strcmp(s->run, run) == 0)
			stream_send(s, "progress", 0, json_pack("{s:s, s:O}", "run", run, "progress", progress));
}

void
watch_dismiss(struct dispatcher *d)
{
	while (d->watchers->streams != NULL)
		stream_end(d->watchers->streams, false);
}
