#include "dispatcher/pauses.h"

#include <stdio.h>
#include <string.h>

#include "dispatcher/toolbox.h"

static const char *const kinds[PAUSE_KINDS] = {[PAUSE_VERTICAL] = "vertical", [PAUSE_TENANT] = "tenant"};

struct pausing {
	json_t *body;
	const char *reason;
	struct pause_row row;
	bool paused;
};

static void
pausing_release(void *data)
{
	json_decref(((struct pausing *)data)->body);
}

static json_t *
pause_json(const struct pause_row *row)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:o}", "kind", kinds[row->kind], "name", row->name, "by", json_text(row->who), "reason",
	    json_text(row->reason), "since", json_time(row->since_real_ms));
}

struct pause_list {
	json_t *list;
	const char *tenant; /* the only one that is told of; NULL: all */
};

static void
add_pause(void *arg, const struct pause_row *row)
{
	const struct pause_list *l = arg;

	if (row->kind != PAUSE_TENANT || l->tenant == NULL || strcmp(l->tenant, row->name) == 0)
		json_array_append_new(l->list, pause_json(row));
}

json_t *
pauses_json(const struct call *c)
{
	struct pause_list l = {json_array(), call_tenant(c)};

	core_pauses(c->d->core, add_pause, &l);
	return l.list;
}

void
pauses_list(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, 0, NULL);

	call_reply_indexed(c, 200, json_pack("{s:o}", "pauses", pauses_json(c)));
}

/* The kind and name that the path gives; a vertical that is to be paused must be there. */
static int
read_path(struct call *c, struct pausing *p, struct err *e)
{
	const char *kind = http_param(c->r, "kind"), *name = http_param(c->r, "name");
	size_t i = 0;

	while (i < PAUSE_KINDS && strcmp(kind, kinds[i]) != 0)
		i++;
	if (i == PAUSE_KINDS) {
		err_set(e, ERR_NOTFOUND, "'%.20s' cannot be paused", kind);
		return err_hint(e, "vertical or tenant");
	}
	if (name[0] == '\0' || strlen(name) >= sizeof(p->row.name))
		return err_set(e, ERR_INVALID, "'%.40s' is not a %s's name", name, kinds[i]);
	if (p->paused && i == PAUSE_VERTICAL && toolbox_vertical(c->d->toolbox, name) == NULL) {
		err_set(e, ERR_NOTFOUND, "no vertical '%.40s'", name);
		return err_hint(e, "GET /v1/queue lists them");
	}
	p->row.kind = (enum pause_kind)i;
	snprintf(p->row.name, sizeof(p->row.name), "%s", name);
	return 0;
}

static void
paused(struct call *c, const struct answer *a)
{
	struct pausing *p = c->data;
	struct err e = a->err;

	if (e.code == ERR_NOTFOUND)
		err_set(&e, ERR_NOTFOUND, "%s %s is not paused", kinds[p->row.kind], p->row.name);
	if (e.code != 0)
		call_reply_err(c, &e);
	else
		call_reply_indexed(c, 200, p->paused ? json_pack("{s:o}", "pause", pause_json(&p->row)) : json_object());
}

static void
change(struct http_req *r, void *ctx, bool pause)
{
	static const struct field fields[] = {{"reason", FIELD_TEXT, offsetof(struct pausing, reason), false, 0, REASON_MAX - 1}};
	struct call *c = call_new(ctx, r, sizeof(struct pausing), pausing_release);
	struct pausing *p = c->data;
	struct err e = {0};

	p->paused = pause;
	if (call_body(c, fields, 1, p, &p->body, &e) != 0 || read_path(c, p, &e) != 0) {
		call_reply_err(c, &e);
		return;
	}
	snprintf(p->row.who, sizeof(p->row.who), "%s", c->who.name);
	snprintf(p->row.reason, sizeof(p->row.reason), "%s", p->reason != NULL ? p->reason : "");
	p->row.since_real_ms = clock_real_ms();
	core_pause(c->d->core, clock_now(), call_core(c, paused), &p->row, pause);
}

void
pause_put(struct http_req *r, void *ctx)
{
	change(r, ctx, true);
}

void
pause_remove(struct http_req *r, void *ctx)
{
	change(r, ctx, false);
}
