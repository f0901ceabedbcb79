#include "dispatcher/call.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "base/utf8.h"
#include "dispatcher/events.h"
#include "proto/json_out.h"

#define SLOTS_FIRST 256
#define ANSWER_KEPT_BYTES (256 * 1024) /* memory for answers that is kept for the next one */
#define SLOT_BITS 24 /* of a number: the slot; the rest tells uses of the slot apart */

struct calls {
	struct call **slot;
	uint64_t *use;       /* how often each slot was taken */
	size_t *free_slots;
	size_t n, n_free;
	struct call *first;  /* all that are alive */
};

struct calls *
calls_new(void)
{
	return xcalloc(1, sizeof(struct calls));
}

void
calls_free(struct calls *cs)
{
	if (cs == NULL)
		return;
	assert(cs->first == NULL);
	free(cs->slot);
	free(cs->use);
	free(cs->free_slots);
	free(cs);
}

static void
more_slots(struct calls *cs)
{
	size_t n = cs->n == 0 ? SLOTS_FIRST : cs->n * 2;

	assert(n < (size_t)1 << SLOT_BITS);
	cs->slot = xrealloc(cs->slot, n * sizeof(cs->slot[0]));
	cs->use = xrealloc(cs->use, n * sizeof(cs->use[0]));
	cs->free_slots = xrealloc(cs->free_slots, n * sizeof(cs->free_slots[0]));
	for (size_t i = cs->n; i < n; i++) {
		cs->slot[i] = NULL;
		cs->use[i] = 0;
		cs->free_slots[cs->n_free++] = i;
	}
	cs->n = n;
}

uint64_t
call_core(struct call *c, void (*answered)(struct call *c, const struct answer *a))
{
	struct calls *cs = c->d->calls;
	size_t at;

	if (cs->n_free == 0)
		more_slots(cs);
	at = cs->free_slots[--cs->n_free];
	cs->slot[at] = c;
	c->number = ++cs->use[at] << SLOT_BITS | at;
	c->answered = answered;
	return c->number;
}

struct call *
call_of_core(struct dispatcher *d, uint64_t number)
{
	struct calls *cs = d->calls;
	size_t at = number & (((size_t)1 << SLOT_BITS) - 1);
	struct call *c = at < cs->n ? cs->slot[at] : NULL;

	if (c == NULL || c->number != number)
		return NULL;
	cs->slot[at] = NULL;
	cs->free_slots[cs->n_free++] = at;
	c->number = 0;
	return c;
}

/* --- life --- */

static void
client_gone(void *arg)
{
	struct call *c = arg;
	uint64_t number = c->number;

	c->r = NULL;
	if (c->held) {
		if (c->gone != NULL)
			c->gone(c);
		return;
	}
	if (number != 0) {
		call_of_core(c->d, number);
		core_caller_gone(c->d->core, clock_now(), number);
	}
	if (c->gone != NULL)
		c->gone(c);
	else
		call_end(c);
}

static struct call *
call_make(struct dispatcher *d, const struct identity *who, size_t data_size, void (*data_free)(void *data))
{
	struct call *c = xcalloc(1, sizeof(*c));

	c->d = d;
	if (who != NULL)
		c->who = *who;
	c->data = data_size > 0 ? xcalloc(1, data_size) : NULL;
	c->data_free = data_free;
	c->next = d->calls->first;
	if (c->next != NULL)
		c->next->prev = c;
	d->calls->first = c;
	return c;
}

struct call *
call_new(struct dispatcher *d, struct http_req *r, size_t data_size, void (*data_free)(void *data))
{
	struct call *c = call_make(d, http_identity(r), data_size, data_free);

	c->r = r;
	http_on_gone(r, client_gone, c);
	return c;
}

struct call *
call_part(const struct call *whole, size_t data_size, void (*data_free)(void *data))
{
	return call_make(whole->d, &whole->who, data_size, data_free);
}

void
call_end(struct call *c)
{
	assert(c->number == 0);
	if (c->r != NULL)
		http_on_gone(c->r, NULL, NULL);
	if (c->prev != NULL)
		c->prev->next = c->next;
	else
		c->d->calls->first = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	if (c->data_free != NULL)
		c->data_free(c->data);
	free(c->data);
	free(c);
}

const char *
call_tenant(const struct call *c)
{
	return (c->who.scopes & SCOPE_MANAGE) != 0 ? NULL : c->who.tenant;
}

/* --- threads --- */

static void
work_run(void *arg)
{
	struct call *c = arg;

	c->rc = c->run(c->d, c->data, &c->err);
}

static void
work_done(void *arg, bool began)
{
	struct call *c = arg;

	if (!began)
		c->rc = err_set(&c->err, ERR_RETRY, "the dispatcher is stopping");
	c->held = false;
	c->done(c);
}

void
call_work(struct call *c, struct work_pool *pool, int (*run)(struct dispatcher *d, void *data, struct err *e),
    void (*done)(struct call *c))
{
	c->run = run;
	c->done = done;
	c->held = true;
	c->err = (struct err){0};
	c->index = events_index(c->d->events);
	work_submit(pool, work_run, work_done, c);
}

/* --- answers --- */

struct buf *
call_answer(struct call *c)
{
	buf_clear(&c->d->answer);
	return &c->d->answer;
}

void
call_reply_written(struct call *c, int status, bool indexed)
{
	struct buf *b = &c->d->answer;
	char index[24];
	const char *const headers[] = {"X-Drover-Index", index, NULL};
	struct err e = {0};

	if (b->overflow) {
		err_set(&e, ERR_TOOBIG, "the answer is larger than %d MiB", ANSWER_MAX_BYTES / (1024 * 1024));
		err_hint(&e, "ask for less at once: limit=");
		call_reply_err(c, &e);
	} else {
		if (indexed)
			snprintf(index, sizeof(index), "%llu", (unsigned long long)(c->index != 0 ? c->index : events_index(c->d->events)));
		if (c->r != NULL) {
			http_on_gone(c->r, NULL, NULL);
			http_reply(c->r, status, "application/json", b->data, b->len, indexed ? headers : NULL);
			c->r = NULL;
		}
		call_end(c);
	}
	if (b->cap > ANSWER_KEPT_BYTES)
		buf_release(b);
}

static void
reply_json(struct call *c, int status, json_t *body, bool indexed)
{
	if (c->r != NULL)
		json_out_value(call_answer(c), NULL, body);
	json_decref(body);
	if (c->r != NULL)
		call_reply_written(c, status, indexed);
	else
		call_end(c);
}

void
call_reply(struct call *c, int status, json_t *body)
{
	reply_json(c, status, body, false);
}

void
call_reply_indexed(struct call *c, int status, json_t *body)
{
	reply_json(c, status, body, true);
}

void
call_reply_err(struct call *c, const struct err *e)
{
	if (c->r != NULL) {
		http_on_gone(c->r, NULL, NULL);
		http_reply_err(c->r, e);
		c->r = NULL;
	}
	call_end(c);
}

void
calls_dismiss(struct dispatcher *d)
{
	struct err e = {0};

	err_set(&e, ERR_RETRY, "the dispatcher is stopping");
	for (struct call *c = d->calls->first, *next; c != NULL; c = next) {
		next = c->next;
		if (c->held || c->r == NULL)
			continue;
		if (c->number != 0) {
			uint64_t number = c->number;

			call_of_core(d, number);
			core_caller_gone(d->core, clock_now(), number);
		}
		if (c->gone == NULL) {
			call_reply_err(c, &e);
			continue;
		}
		http_reply_err(c->r, &e);
		c->r = NULL;
		c->gone(c); /* it is in a list of somebody's, who takes it out and ends it */
	}
}

void
calls_drop(struct dispatcher *d)
{
	while (d->calls->first != NULL) {
		struct call *c = d->calls->first;

		c->r = NULL;
		c->number = 0;
		call_end(c);
	}
}

/* --- what came with the request --- */

static int
field_number(const struct field *f, const json_t *v, char *at, struct err *e)
{
	json_int_t n;

	if (!json_is_integer(v))
		return err_set(e, ERR_INVALID, "%s: expected an integer", f->name);
	n = json_integer_value(v);
	if (n < f->min || n > f->max)
		return err_set(e, ERR_INVALID, "%s: %lld is not within %lld and %lld", f->name, (long long)n, (long long)f->min,
		    (long long)f->max);
	*(int64_t *)(void *)at = n;
	return 0;
}

static int
field_text(const struct field *f, const json_t *v, char *at, struct err *e)
{
	const char *text = json_string_value(v);

	if (text == NULL || strlen(text) != json_string_length(v))
		return err_set(e, ERR_INVALID, "%s: expected a text", f->name);
	if (strlen(text) < (size_t)f->min || strlen(text) > (size_t)f->max)
		return err_set(e, ERR_INVALID, "%s: between %lld and %lld bytes are allowed", f->name, (long long)f->min,
		    (long long)f->max);
	if (f->kind == FIELD_TIME)
		return clock_parse(text, (int64_t *)(void *)at, e) == 0 ? 0 : err_prefix(e, ERR_INVALID, "%s", f->name);
	*(const char **)(void *)at = text;
	return 0;
}

static int
field_read(const struct field *f, json_t *v, void *into, struct err *e)
{
	char *at = (char *)into + f->offset;

	if (v == NULL || json_is_null(v))
		return f->required ? err_set(e, ERR_INVALID, "%s is missing", f->name) : 0;
	if (f->kind == FIELD_TEXT || f->kind == FIELD_TIME)
		return field_text(f, v, at, e);
	if (f->kind == FIELD_INT)
		return field_number(f, v, at, e);
	if (f->kind == FIELD_BOOL && json_is_boolean(v)) {
		*(bool *)(void *)at = json_is_true(v);
		return 0;
	}
	if ((f->kind == FIELD_OBJECT && json_is_object(v)) || (f->kind == FIELD_ARRAY && json_is_array(v))) {
		*(json_t **)(void *)at = v;
		return 0;
	}
	return err_set(e, ERR_INVALID, "%s: has the wrong type", f->name);
}

int
fields_read(json_t *o, const struct field *fields, size_t n, void *into, struct err *e)
{
	const char *key;
	json_t *v;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = field_read(&fields[i], json_object_get(o, fields[i].name), into, e);
	if (rc != 0)
		return rc;
	json_object_foreach(o, key, v)
	{
		size_t i = 0;

		while (i < n && strcmp(fields[i].name, key) != 0)
			i++;
		if (i == n)
			return err_set(e, ERR_INVALID, "unknown key '%.64s'", key);
	}
	return 0;
}

int
call_body(struct call *c, const struct field *fields, size_t n, void *into, json_t **ret_body, struct err *e)
{
	size_t len = 0;
	const char *text = http_body(c->r, &len);
	json_error_t je;
	json_t *body;
	int rc;

	if (!json_is_shallow(text, len))
		return err_set(e, ERR_INVALID, "the body is nested more than %d deep", JSON_DEPTH_MAX);
	body = len == 0 ? json_object() : json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
	if (body == NULL)
		return err_set(e, ERR_INVALID, "the body is not JSON: line %d: %.200s", je.line, je.text);
	if (!json_is_object(body))
		rc = err_set(e, ERR_INVALID, "the body is not a JSON object");
	else
		rc = fields_read(body, fields, n, into, e);
	if (rc == 0)
		*ret_body = body;
	else
		json_decref(body);
	return rc;
}

int
call_query_int(const struct call *c, const char *name, int64_t def, int64_t min, int64_t max, int64_t *ret, struct err *e)
{
	const char *text = http_query(c->r, name);

	*ret = def;
	if (text == NULL || text[0] == '\0')
		return 0;
	return num_int(text, min, max, ret, e) == 0 ? 0 : err_prefix(e, ERR_INVALID, "%s", name);
}

int
call_query_duration(const struct call *c, const char *name, int64_t max_ms, int64_t *ret_ms, struct err *e)
{
	const char *text = http_query(c->r, name);

	*ret_ms = 0;
	if (text == NULL || text[0] == '\0')
		return 0;
	if (num_duration(text, 0, INT64_MAX, ret_ms, e) != 0)
		return err_prefix(e, ERR_INVALID, "%s", name);
	if (*ret_ms > max_ms)
		*ret_ms = max_ms;
	return 0;
}

int
call_id(const struct call *c, const char *param, const char **ret, struct err *e)
{
	const char *id = http_param(c->r, param);
	size_t len = strlen(id);

	if (len < 4 || len >= RUN_ID_MAX || strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789_-") != len) {
		err_set(e, ERR_INVALID, "'%.40s' is not an id", id);
		return err_hint(e, "give at least the first four characters");
	}
	*ret = id;
	return 0;
}

json_t *
json_time(int64_t real_ms)
{
	char text[CLOCK_TEXT_LEN];

	return real_ms == 0 ? json_null() : json_string(clock_text(real_ms, text));
}

json_t *
json_text(const char *s)
{
	json_t *v = json_string(s);
	char *copy;
	int len;

	if (v != NULL)
		return v;
	copy = xstrdup(s);
	for (char *p = copy; *p != '\0'; p += len) {
		len = utf8_decode(p, UTF8_TO_NUL, NULL);
		if (len == 0) {
			*p = '?';
			len = 1;
		}
	}
	v = json_string(copy);
	free(copy);
	return v;
}
