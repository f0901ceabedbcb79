#include "dispatcher/toolbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/num.h"
#include "dispatcher/buckets.h"
#include "dispatcher/bundle.h"
#include "dispatcher/meters.h"
#include "dispatcher/shell_write.h"

#define SETTLE_MS 300        /* after a change, before the folder is read */
#define RETRY_FIRST_MS 100   /* after the store refused a bundle: at start its buckets may not be made yet; doubles */
#define RETRY_MAX_MS 5000
#define LOOK_MS 3000         /* between looks whether the folder is still the same one */
#define ENTRIES_MAX 1000     /* workflows, verticals */
#define WATCH_DEPTH 4
#define WATCH_EVENTS (IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF | IN_ATTRIB)

struct broken {
	char name[WORKFLOW_NAME_MAX], file[128], reason[256];
	int line;
};

struct loaded { /* what one reading of the folder found */
	struct toolbox_workflow *workflows;
	char **metadata; /* of each workflow */
	size_t n;
	struct vertical **verticals;
	size_t n_verticals;
	bool all_verticals; /* none was left out */
	struct broken *broken;
	size_t n_broken;
	int rc;          /* of the store, or of what could not be read; the rest holds all the same */
	struct err err;
};

struct toolbox {
	struct dispatcher *d;
	struct work_pool *pool;  /* one thread: readings do not overtake each other */
	struct loaded folder;    /* the last reading */
	struct map *pushed;      /* name -> struct toolbox_workflow */
	struct map *by_name;     /* name -> struct toolbox_workflow: pushed, else the folder's */
	struct map *verticals;   /* name -> struct vertical */
	/* The thread's: bundles of the folder that its last reading has seen to be in the store, and those of this reading. What
	 * is in the folder no longer may be removed from the store, and comes back one day. */
	struct map *published, *seen;
	int inotify;
	struct loop_fd *watch;
	struct loop_timer timer, look_timer;
	struct stat root;        /* the folder that was read last and is watched; st_ino 0: there was none */
	int64_t retry_ms;
	bool reading, again, read_once;
	char state[256];
};

/* --- thread: reading the folder --- */

static void
loaded_release(struct loaded *l)
{
	for (size_t i = 0; i < l->n; i++) {
		workflow_free(l->workflows[i].workflow);
		free(l->metadata[i]);
	}
	for (size_t i = 0; i < l->n_verticals; i++)
		vertical_free(l->verticals[i]);
	free(l->workflows);
	free(l->metadata);
	free(l->verticals);
	free(l->broken);
	*l = (struct loaded){0};
}

/* Notes why a folder cannot be used: "FILE:LINE: reason" is taken apart. */
static void
add_broken(struct loaded *l, const char *name, const char *file, const struct err *e)
{
	struct broken *b;
	const char *colon = strchr(e->msg, ':'), *reason = e->msg;
	size_t digits = colon == NULL ? 0 : strspn(colon + 1, "0123456789");
	char number[8];
	int64_t line = 0;

	l->broken = xrealloc(l->broken, (l->n_broken + 1) * sizeof(l->broken[0]));
	b = &l->broken[l->n_broken++];
	*b = (struct broken){.line = 0};
	snprintf(b->name, sizeof(b->name), "%.63s", name);
	snprintf(b->file, sizeof(b->file), "%.127s", file);
	snprintf(number, sizeof(number), "%.*s", digits < sizeof(number) ? (int)digits : 0, colon == NULL ? "" : colon + 1);
	if (num_int(number, 1, 1000000, &line, NULL) == 0 && strncmp(colon + 1 + digits, ": ", 2) == 0) {
		snprintf(b->file, sizeof(b->file), "%.*s", (int)(colon - e->msg), e->msg);
		b->line = (int)line;
		reason = colon + 1 + digits + 2;
	}
	snprintf(b->reason, sizeof(b->reason), "%.255s", reason);
}

/* Not what it says is wrong with it: it is read again, and nobody takes it for gone meanwhile. */
static void
cannot_read(struct loaded *l, const char *name, const struct err *e)
{
	l->rc = ERR_IO;
	err_set(&l->err, ERR_IO, "%.64s: %s", name, e->msg);
}

static int
publish(struct toolbox *t, const char *sha256, const struct buf *packed, struct err *e)
{
	struct dispatcher *d = t->d;
	struct object_info info;
	char key[1200];
	int rc;

	key_bundle(sha256, key, sizeof(key));
	rc = store_head(d->brief, d->config->store.toolbox, key, &info, e);
	/* Dated anew, it is safe from a removal that has begun because nobody used it. */
	if (rc == 0)
		rc = store_copy(d->brief, d->config->store.toolbox, key, key, NULL, 0, e);
	if (rc == ERR_NOTFOUND && (rc = buckets_make(d->buckets, e)) == 0)
		rc = store_put_bytes(d->brief, d->config->store.toolbox, key, packed->data, packed->len, NULL, NULL, e);
	return rc;
}

static void
load_workflow(struct toolbox *t, int dirfd, const char *name, struct loaded *l)
{
	struct bundle b;
	struct err e = {0};
	int rc = workflow_name_valid(name) ? bundle_from_folder(dirfd, name, &b, &e)
	                                   : err_set(&e, ERR_INVALID, "'%.64s' cannot be a workflow's name", name);

	if (rc == ERR_NOTFOUND) /* removed while we looked */
		return;
	if (rc == ERR_IO) {
		cannot_read(l, name, &e);
		return;
	}
	if (rc != 0) {
		add_broken(l, name, "metadata.yaml", &e);
		return;
	}
	if (map_get(t->published, b.sha256) == NULL && (rc = publish(t, b.sha256, &b.packed, &e)) != 0) {
		l->rc = rc;
		l->err = e;
		bundle_release(&b);
		return;
	}
	map_put(t->seen, b.sha256, t);
	l->workflows = xrealloc(l->workflows, (l->n + 1) * sizeof(l->workflows[0]));
	l->metadata = xrealloc(l->metadata, (l->n + 1) * sizeof(l->metadata[0]));
	l->workflows[l->n] = (struct toolbox_workflow){.workflow = b.workflow, .bundle_bytes = (int64_t)b.packed.len,
		.loaded_real_ms = clock_real_ms()};
	memcpy(l->workflows[l->n].bundle, b.sha256, sizeof(b.sha256));
	l->metadata[l->n++] = b.metadata;
	b.workflow = NULL;
	b.metadata = NULL;
	bundle_release(&b);
}

static void
load_vertical(struct toolbox *t, int dirfd, const char *name, struct loaded *l)
{
	char path[300];
	struct buf b = buf_make(WORKFLOW_FILE_MAX);
	struct vertical *v = NULL;
	struct err e = {0};
	int rc;

	(void)t;
	snprintf(path, sizeof(path), "%.255s/vertical.yaml", name);
	if (!vertical_name_valid(name))
		rc = err_set(&e, ERR_INVALID, "'%.64s' cannot be a vertical's name", name);
	else if ((rc = file_read(dirfd, path, &b, &e)) == 0)
		rc = vertical_parse("vertical.yaml", name, buf_str(&b), b.len, &v, &e);
	buf_release(&b);
	if (rc == ERR_IO) {
		cannot_read(l, name, &e);
		return;
	}
	if (rc != 0) {
		add_broken(l, name, "vertical.yaml", &e);
		return;
	}
	l->verticals = xrealloc(l->verticals, (l->n_verticals + 1) * sizeof(l->verticals[0]));
	l->verticals[l->n_verticals++] = v;
}

/* Returns whether all of them were seen. */
static bool
load_each(struct toolbox *t, const char *sub, struct loaded *l,
    void (*load)(struct toolbox *t, int dirfd, const char *name, struct loaded *l))
{
	char path[4096];
	DIR *dir;
	struct dirent *entry;
	size_t n = 0;
	bool all;

	if (file_join(path, sizeof(path), t->d->config->toolbox, sub, NULL) != 0)
		return false;
	if ((dir = opendir(path)) == NULL) {
		if (errno != ENOENT)
			l->rc = err_set(&l->err, ERR_IO, "%s: %s", sub, strerror(errno));
		return false;
	}
	while (errno = 0, (entry = readdir(dir)) != NULL && n < ENTRIES_MAX) {
		if (entry->d_name[0] == '.' || (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN))
			continue;
		load(t, dirfd(dir), entry->d_name, l);
		n++;
	}
	all = entry == NULL && errno == 0;
	if (entry == NULL && errno != 0)
		l->rc = err_set(&l->err, ERR_IO, "%s: %s", sub, strerror(errno));
	closedir(dir);
	return all;
}

struct reading {
	struct toolbox *t;
	struct loaded found;
};

static void
read_run(void *arg)
{
	struct reading *r = arg;

	r->t->seen = map_new();
	r->found.all_verticals = load_each(r->t, "verticals", &r->found, load_vertical) && r->found.rc == 0;
	(void)load_each(r->t, "workflows", &r->found, load_workflow);
	map_free(r->t->published);
	r->t->published = r->t->seen;
}

/* --- loop: taking over what was read --- */

static void
index_workflows(struct toolbox *t)
{
	size_t cursor = 0;
	const char *name;
	void *w;

	map_free(t->by_name);
	t->by_name = map_new();
	for (size_t i = 0; i < t->folder.n; i++)
		map_put(t->by_name, t->folder.workflows[i].workflow->name, &t->folder.workflows[i]);
	while (map_next(t->pushed, &cursor, &name, &w))
		map_put(t->by_name, name, w);
}

static void
declare_verticals(struct toolbox *t)
{
	int64_t window = t->d->config->window;

	map_free(t->verticals);
	t->verticals = map_new();
	for (size_t i = 0; i < t->folder.n_verticals; i++) {
		struct vertical *v = t->folder.verticals[i];
		struct core_vertical cv = {.window = (unsigned)(window > 0 ? window : v->window), .warm_only = v->capacity == CAPACITY_WARM};

		map_put(t->verticals, v->name, v);
		snprintf(cv.name, sizeof(cv.name), "%s", v->name);
		core_set_vertical(t->d->core, clock_now(), &cv);
		if (t->d->cluster != NULL)
			cluster_set_vertical(t->d->cluster, v);
	}
	if (t->d->cluster != NULL)
		cluster_toolbox_read(t->d->cluster);
}

/* The bundles of the folder are rows, so that those that no run refers to any more can be removed one day. */
static void
note_bundles(struct toolbox *t, const struct loaded *before)
{
	for (size_t i = 0; i < t->folder.n; i++) {
		const struct toolbox_workflow *w = &t->folder.workflows[i];
		struct ledger_bundle b = {.size_bytes = w->bundle_bytes, .created_real_ms = w->loaded_real_ms,
			.metadata = t->folder.metadata[i]};
		struct ledger_op op = {.kind = LEDGER_BUNDLE_PUT, .bundle = &b};
		bool had = false;

		for (size_t k = 0; k < before->n; k++)
			had = had || strcmp(before->workflows[k].bundle, w->bundle) == 0;
		if (had)
			continue;
		log_info(w->workflow->name, "version %s loaded, bundle %.12s", w->workflow->version, w->bundle);
		memcpy(b.sha256, w->bundle, sizeof(b.sha256));
		snprintf(b.workflow, sizeof(b.workflow), "%s", w->workflow->name);
		shell_write(t->d, &op, NULL, NULL);
	}
}

static void begin_reading(void *arg);

static void
read_done(void *arg, bool began)
{
	struct reading *r = arg;
	struct toolbox *t = r->t;
	struct loaded before = t->folder;

	t->reading = false;
	if (!began) {
		loaded_release(&r->found);
		free(r);
		return;
	}
	t->folder = r->found;
	t->read_once = true;
	snprintf(t->state, sizeof(t->state), "%.255s", t->folder.rc == 0 ? "ok" : t->folder.err.msg);
	for (size_t i = 0; i < t->folder.n_broken; i++)
		log_warn(t->folder.broken[i].name, "%s:%d: %s", t->folder.broken[i].file, t->folder.broken[i].line,
		    t->folder.broken[i].reason);
	metrics_set(METER_BROKEN_WORKFLOWS, NULL, (int64_t)t->folder.n_broken);
	index_workflows(t);
	declare_verticals(t);
	note_bundles(t, &before);
	loaded_release(&before);
	free(r);
	if (t->again || t->folder.rc != 0)
		loop_timer_set(t->d->loop, &t->timer, clock_mono_ms() + (t->again ? SETTLE_MS : t->retry_ms), begin_reading, t);
	t->retry_ms = t->folder.rc == 0 ? RETRY_FIRST_MS : t->retry_ms * 2 < RETRY_MAX_MS ? t->retry_ms * 2 : RETRY_MAX_MS;
	t->again = false;
}

static void watch_tree(struct toolbox *t, const char *path, unsigned depth);

/* Which folder the path leads to now; all zero: to none. False: that cannot be told, as with a file server that hangs for a moment. */
static bool
find_root(const char *path, struct stat *ret)
{
	struct stat st = {0};

	if (stat(path, &st) != 0 && errno != ENOENT)
		return false;
	*ret = st;
	return true;
}

static void
begin_reading(void *arg)
{
	struct toolbox *t = arg;
	struct reading *r;

	if (t->reading) {
		t->again = true;
		return;
	}
	(void)find_root(t->d->config->toolbox, &t->root);
	if (t->inotify >= 0)
		watch_tree(t, t->d->config->toolbox, 0);
	r = xcalloc(1, sizeof(*r));
	r->t = t;
	t->reading = true;
	work_submit(t->pool, read_run, read_done, r);
}

/* --- watching: any change leads to a new reading, once it has been quiet for a moment --- */

static void
watch_tree(struct toolbox *t, const char *path, unsigned depth)
{
	DIR *dir;
	struct dirent *entry;
	char sub[4096];

	if (inotify_add_watch(t->inotify, path, WATCH_EVENTS | IN_ONLYDIR) < 0 || depth >= WATCH_DEPTH ||
	    (dir = opendir(path)) == NULL)
		return;
	while ((entry = readdir(dir)) != NULL)
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.' && strcmp(entry->d_name, "__pycache__") != 0 &&
		    file_join(sub, sizeof(sub), path, entry->d_name, NULL) == 0)
			watch_tree(t, sub, depth + 1);
	closedir(dir);
}

static void
changed(uint32_t ready, void *arg)
{
	struct toolbox *t = arg;
	char events[8192];

	(void)ready;
	while (read(t->inotify, events, sizeof(events)) > 0)
		continue;
	loop_timer_set(t->d->loop, &t->timer, clock_mono_ms() + SETTLE_MS, begin_reading, t);
}

/* --- watched is a folder, not its name: another one may have taken its place, or come back after it was removed --- */

struct root_look {
	struct toolbox *t;
	struct stat root;
	bool known;
};

static void look_at_root(void *arg);

static void
look_run(void *arg)
{
	struct root_look *l = arg;

	l->known = find_root(l->t->d->config->toolbox, &l->root);
}

static void
look_done(void *arg, bool began)
{
	struct root_look *l = arg;
	struct toolbox *t = l->t;

	if (l->known && (l->root.st_ino != t->root.st_ino || l->root.st_dev != t->root.st_dev))
		begin_reading(t);
	if (began)
		loop_timer_set(t->d->loop, &t->look_timer, clock_mono_ms() + LOOK_MS, look_at_root, t);
	free(l);
}

static void
look_at_root(void *arg)
{
	struct root_look *l = xcalloc(1, sizeof(*l));

	l->t = arg;
	work_submit(l->t->pool, look_run, look_done, l);
}

/* --- pushed workflows --- */

static void
pushed_free(struct toolbox_workflow *w)
{
	if (w == NULL)
		return;
	workflow_free(w->workflow);
	free(w);
}

static void
add_pushed(struct toolbox *t, struct workflow *workflow, const struct ledger_bundle *b)
{
	struct toolbox_workflow *w = xcalloc(1, sizeof(*w));

	w->workflow = workflow;
	memcpy(w->bundle, b->sha256, sizeof(w->bundle));
	w->bundle_bytes = b->size_bytes;
	w->loaded_real_ms = b->created_real_ms;
	w->pushed = true;
	pushed_free(map_put(t->pushed, workflow->name, w));
	index_workflows(t);
}

static int
restore_pushed(void *arg, const struct ledger_bundle *b, bool used)
{
	struct toolbox *t = arg;
	struct workflow *w;
	struct err e;

	(void)used;
	if (workflow_parse("metadata.yaml", b->workflow, b->metadata, strlen(b->metadata), &w, &e) != 0)
		log_warn(b->workflow, "pushed earlier, but not valid any more: %s", e.msg);
	else
		add_pushed(t, w, b);
	return 0;
}

struct push {
	struct toolbox *t;
	char name[WORKFLOW_NAME_MAX];
	void *tar;
	size_t len;
	struct bundle bundle;
	struct ledger_bundle row;
};

static void
push_release(void *data)
{
	struct push *p = data;

	free(p->tar);
	bundle_release(&p->bundle);
}

static int
push_run(struct dispatcher *d, void *data, struct err *e)
{
	struct push *p = data;
	int rc = bundle_from_tar(p->name, p->tar, p->len, &p->bundle, e);

	(void)d;
	return rc == 0 ? publish(p->t, p->bundle.sha256, &p->bundle.packed, e) : rc;
}

static void
push_committed(struct call *c, const struct ledger_txn *txn)
{
	struct push *p = c->data;
	struct err e = {0};

	if (txn->result != LEDGER_OK) {
		err_set(&e, ERR_RETRY, "the ledger cannot write now");
		call_reply_err(c, &e);
		return;
	}
	add_pushed(p->t, p->bundle.workflow, &p->row);
	p->bundle.workflow = NULL;
	log_info(p->name, "pushed by %s, bundle %.12s", c->who.name, p->row.sha256);
	call_reply(c, 201, json_pack("{s:o}", "workflow", toolbox_workflow_json(toolbox_find(p->t, p->name))));
}

static void
push_done(struct call *c)
{
	struct push *p = c->data;
	struct ledger_op op = {.kind = LEDGER_BUNDLE_PUT, .bundle = &p->row};

	if (c->rc != 0) {
		call_reply_err(c, &c->err);
		return;
	}
	memcpy(p->row.sha256, p->bundle.sha256, sizeof(p->row.sha256));
	snprintf(p->row.workflow, sizeof(p->row.workflow), "%s", p->name);
	p->row.size_bytes = (int64_t)p->bundle.packed.len;
	p->row.created_real_ms = clock_real_ms();
	p->row.pushed = true;
	p->row.metadata = p->bundle.metadata;
	shell_write(c->d, &op, c, push_committed);
}

void
toolbox_push(struct call *c, const char *name, const void *tar, size_t len)
{
	struct push *p = xcalloc(1, sizeof(*p));

	p->t = c->d->toolbox;
	snprintf(p->name, sizeof(p->name), "%s", name);
	p->tar = xmemdup(tar, len);
	p->len = len;
	c->data = p;
	c->data_free = push_release;
	call_work(c, p->t->pool, push_run, push_done);
}

/* --- life --- */

struct toolbox *
toolbox_new(struct dispatcher *d, struct err *e)
{
	struct toolbox *t = xcalloc(1, sizeof(*t));

	t->d = d;
	t->inotify = -1;
	t->retry_ms = RETRY_FIRST_MS;
	t->pushed = map_new();
	t->by_name = map_new();
	t->verticals = map_new();
	t->published = map_new();
	snprintf(t->state, sizeof(t->state), "being read");
	if ((t->pool = work_pool_new(d->loop, "toolbox", 1, e)) == NULL ||
	    ledger_bundles(d->ledger, true, restore_pushed, t, e) != 0) {
		toolbox_free(t);
		return NULL;
	}
	if (d->config->toolbox[0] == '\0') {
		snprintf(t->state, sizeof(t->state), "off");
		return t;
	}
	if ((t->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) >= 0)
		t->watch = loop_fd_add(d->loop, t->inotify, EPOLLIN, changed, t);
	else
		log_warn("toolbox", "changes are not noticed: inotify: %s", strerror(errno));
	begin_reading(t);
	look_at_root(t);
	return t;
}

void
toolbox_free(struct toolbox *t)
{
	size_t cursor = 0;
	void *w;

	if (t == NULL)
		return;
	work_pool_free(t->pool);
	loop_timer_clear(t->d->loop, &t->timer);
	loop_timer_clear(t->d->loop, &t->look_timer);
	if (t->watch != NULL)
		loop_fd_remove(t->d->loop, t->watch);
	if (t->inotify >= 0)
		close(t->inotify);
	while (map_next(t->pushed, &cursor, NULL, &w))
		pushed_free(w);
	map_free(t->pushed);
	map_free(t->by_name);
	map_free(t->verticals);
	map_free(t->published);
	loaded_release(&t->folder);
	free(t);
}

/* --- reading it --- */

const struct toolbox_workflow *
toolbox_find(const struct toolbox *t, const char *name)
{
	return map_get(t->by_name, name);
}

const struct vertical *
toolbox_vertical(const struct toolbox *t, const char *name)
{
	return map_get(t->verticals, name);
}

static bool
is_broken(const struct toolbox *t, const char *name, const char *file)
{
	for (size_t i = 0; i < t->folder.n_broken; i++)
		if (strcmp(t->folder.broken[i].name, name) == 0 && (file == NULL || strcmp(t->folder.broken[i].file, file) == 0))
			return true;
	return false;
}

bool
toolbox_whole(const struct toolbox *t)
{
	return t->d->config->toolbox[0] == '\0' || (t->read_once && t->folder.rc == 0);
}

int
toolbox_lacks(const struct toolbox *t, const char *name, struct err *e)
{
	if (toolbox_whole(t) || is_broken(t, name, NULL)) {
		err_set(e, ERR_NOTFOUND, "no workflow '%.64s'", name);
		return err_hint(e, "see GET /v1/workflows, also for those that are broken");
	}
	err_set(e, ERR_RETRY, "workflow '%.64s' is not known yet (toolbox: %.200s)", name, t->state);
	return err_hint(e, "try again in a moment");
}

const char *
toolbox_no_group(const struct toolbox *t, const char *vertical)
{
	const struct vertical *v;

	if (t == NULL || !t->read_once || !t->folder.all_verticals)
		return NULL;
	v = map_get(t->verticals, vertical);
	if (v != NULL)
		return v->capacity == CAPACITY_JOB ? "its vertical has capacity 'job': no warm workers" : NULL;
	if (is_broken(t, vertical, "vertical.yaml"))
		return NULL;
	return "the toolbox has no vertical of its name any more";
}

const char *
toolbox_state(const struct toolbox *t)
{
	return t->state;
}

bool
toolbox_uses(const struct toolbox *t, const char *bundle)
{
	size_t cursor = 0;
	void *w;

	while (map_next(t->by_name, &cursor, NULL, &w))
		if (strcmp(((struct toolbox_workflow *)w)->bundle, bundle) == 0)
			return true;
	return false;
}

json_t *
toolbox_workflow_json(const struct toolbox_workflow *w)
{
	json_t *o = workflow_json(w->workflow);

	json_object_set_new(o, "bundle", json_string(w->bundle));
	json_object_set_new(o, "loaded_at", json_time(w->loaded_real_ms));
	json_object_set_new(o, "source", json_string(w->pushed ? "push" : "folder"));
	return o;
}

static int
by_name(const void *a, const void *b)
{
	const struct toolbox_workflow *const *x = a, *const *y = b;

	return strcmp((*x)->workflow->name, (*y)->workflow->name);
}

json_t *
toolbox_list_json(const struct toolbox *t)
{
	json_t *workflows = json_array(), *broken = json_array();
	const struct toolbox_workflow **all = xcalloc(map_count(t->by_name) + 1, sizeof(struct toolbox_workflow *));
	size_t cursor = 0, n = 0;
	void *w;

	while (map_next(t->by_name, &cursor, NULL, &w))
		all[n++] = w;
	qsort(all, n, sizeof(*all), by_name);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(workflows, toolbox_workflow_json(all[i]));
	free(all);
	for (size_t i = 0; i < t->folder.n_broken; i++)
		json_array_append_new(broken, json_pack("{s:o, s:o, s:i, s:o}", "name", json_text(t->folder.broken[i].name), "file",
		    json_text(t->folder.broken[i].file), "line", t->folder.broken[i].line, "reason",
		    json_text(t->folder.broken[i].reason)));
	return json_pack("{s:o, s:o}", "workflows", workflows, "broken", broken);
}
