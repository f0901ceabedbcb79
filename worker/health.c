#include "worker/health.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/threads.h"
#include "net/http_server.h"
#include "proto/run.h"
#include "worker/step_env.h"

#define LOOK_WELL_MS 15000
#define LOOK_ILL_MS 3000
#define STORE_PROBE_KEY "drover/health" /* need not exist: the answer that it does not is one */
#define CONNECTIONS_MAX 16
#define IDLE_TIMEOUT_MS 5000
#define HEADER_MAX 8192

struct health {
	struct worker *worker;
	struct loop *loop;
	void (*changed)(void *arg);
	void *arg;
	struct http_server *http;
	bool leaving;
	char why[REASON_MAX];     /* the loop's */

	pthread_t thread;
	bool running;             /* there is a thread */
	pthread_mutex_t lock;     /* of what is below, and of the worker's tools */
	pthread_cond_t wake;
	bool stop;
	bool has_fresh;
	struct tools fresh;       /* a probe that found more than the worker's own, until the loop takes it */
	char last[REASON_MAX];    /* the thread's: what it said last */
};

/* --- looking: the thread --- */

static int
look_at_store(struct health *h, struct err *e)
{
	const struct config *c = &h->worker->config;
	struct object_info info;
	int rc = store_head(h->worker->brief, c->store.results, STORE_PROBE_KEY, &info, e);

	return rc == 0 || rc == ERR_NOTFOUND ? 0 : err_prefix(e, rc, "the object store");
}

/* A file can be made, written and found again, and the reserve that sudden growth lives on is there at least in part. */
static int
look_at_disk(struct health *h, struct err *e)
{
	const struct config *c = &h->worker->config;
	char path[4096], room[32];
	struct statvfs v;
	int fd, bad = 0;

	if (snprintf(path, sizeof(path), "%s/.health-%d", c->cache_dir, (int)getpid()) >= (int)sizeof(path))
		return err_set(e, ERR_INVALID, "CACHE_DIR is too long");
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set(e, ERR_IO, "CACHE_DIR %s: %s", c->cache_dir, strerror(errno));
	if (write(fd, path, strlen(path)) != (ssize_t)strlen(path) || fstatvfs(fd, &v) != 0)
		bad = errno != 0 ? errno : ENOSPC;
	(void)unlink(path);
	close(fd);
	if (bad != 0)
		return err_set(e, ERR_IO, "CACHE_DIR %s: %s", c->cache_dir, strerror(bad));
	if ((int64_t)v.f_bavail * (int64_t)v.f_frsize < c->cache_min_free_bytes / 2)
		return err_set(e, ERR_IO, "CACHE_DIR %s: less than half of CACHE_MIN_FREE (%s) is free", c->cache_dir,
		    num_format_size(c->cache_min_free_bytes, room, sizeof(room)));
	return 0;
}

/* Whether a probe of these tools (NULL: of all) misses none. What it found is to be released in any case. */
static bool
all_found(struct health *h, const json_t *only, struct tools *ret)
{
	struct err ignored = {0};

	return tools_probe(&h->worker->config, only, ret, &ignored) == 0 && json_array_size(ret->missing) == 0;
}

/* Tools that were missing at the start may have been installed since. The others are not called again and again meanwhile. */
static int
look_at_missing_tools(struct health *h, struct err *e)
{
	struct tools late = {0}, fresh = {0};
	json_t *missing;
	char first[64];
	bool better;

	pthread_mutex_lock(&h->lock);
	missing = json_deep_copy(h->worker->tools.missing);
	pthread_mutex_unlock(&h->lock);
	if (json_array_size(missing) == 0) {
		json_decref(missing);
		return 0;
	}
	(void)snprintf(first, sizeof(first), "%.60s", json_string_value(json_array_get(missing, 0)));
	better = all_found(h, missing, &late) && all_found(h, NULL, &fresh);
	tools_release(&late);
	json_decref(missing);
	pthread_mutex_lock(&h->lock);
	if (better && !h->has_fresh) {
		h->fresh = fresh;
		h->has_fresh = true;
		fresh = (struct tools){0};
	}
	pthread_mutex_unlock(&h->lock);
	tools_release(&fresh);
	if (better)
		return 0;
	return err_set(e, ERR_NOTFOUND, "tools of vertical %s are missing, the first is %s (install.sh of the vertical puts them there)",
	    h->worker->config.vertical, first);
}

static int
look_at_confinement(struct health *h, struct err *e)
{
	const struct worker *w = h->worker;

	if (w->caps.rung != RUNG_NONE || strcmp(w->config.sandbox, "require") != 0)
		return 0;
	return err_set(e, ERR_IO, "tools cannot be confined here: %.200s", w->caps.why);
}

static void
look(struct health *h, char why[REASON_MAX])
{
	static int (*const looks[])(struct health *h, struct err *e) = {look_at_store, look_at_disk, look_at_confinement,
		look_at_missing_tools};
	struct err e = {0};

	why[0] = '\0';
	for (size_t i = 0; i < sizeof(looks) / sizeof(looks[0]) && why[0] == '\0'; i++) {
		if (looks[i](h, &e) != 0)
			(void)step_clean_text(why, REASON_MAX, e.msg[0] != '\0' ? e.msg : "unfit"); /* it travels as JSON */
	}
}

struct finding { /* from the thread to the loop */
	struct health *health;
	char why[REASON_MAX];
};

static void
take_finding(void *arg)
{
	struct finding *f = arg;
	struct health *h = f->health;

	if (h->running) { /* else it is on its way out */
		if (f->why[0] != '\0')
			log_warn(h->worker->id, "takes no runs: %s", f->why);
		else
			log_info(h->worker->id, "well again");
		memcpy(h->why, f->why, sizeof(h->why));
		h->changed(h->arg);
	}
	free(f);
}

static void *
watch(void *arg)
{
	struct health *h = arg;

	pthread_mutex_lock(&h->lock);
	while (!h->stop) {
		struct finding *f = xcalloc(1, sizeof(*f));
		int64_t began_mono_ms = clock_mono_ms();

		cond_wait_until(&h->wake, &h->lock, began_mono_ms + (h->last[0] != '\0' ? LOOK_ILL_MS : LOOK_WELL_MS));
		pthread_mutex_unlock(&h->lock);
		f->health = h;
		look(h, f->why);
		pthread_mutex_lock(&h->lock);
		if (h->stop || strcmp(f->why, h->last) == 0) {
			free(f);
			continue;
		}
		memcpy(h->last, f->why, sizeof(h->last));
		loop_post(h->loop, take_finding, f);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

/* --- telling: the loop --- */

const char *
health_why(const struct health *h)
{
	return h->why;
}

void
health_leaving(struct health *h)
{
	h->leaving = true;
}

bool
health_adopt_tools(struct health *h)
{
	bool news;

	pthread_mutex_lock(&h->lock);
	news = h->has_fresh;
	if (news) {
		struct tools old = h->worker->tools;

		h->worker->tools = h->fresh;
		h->fresh = (struct tools){0};
		h->has_fresh = false;
		tools_release(&old);
	}
	pthread_mutex_unlock(&h->lock);
	return news;
}

static void
answer(struct http_req *r, void *ctx)
{
	const struct health *h = ctx;
	const char *why = h->leaving ? "the worker is leaving" : h->why;
	json_t *o = json_pack("{s:s, s:s, s:s, s:s}", "status", why[0] == '\0' ? "ok" : "unfit", "why", why, "worker", h->worker->id,
	    "vertical", h->worker->config.vertical);
	char *text = json_dumps(o, JSON_COMPACT);

	http_reply_json(r, why[0] == '\0' ? 200 : 503, text);
	free(text);
	json_decref(o);
}

static int
anybody(struct http_req *r, unsigned scope, bool *ret_challenge, void *ctx, struct err *e)
{
	(void)r;
	(void)scope;
	(void)ret_challenge;
	(void)ctx;
	(void)e;
	return 0;
}

static int
serve(struct health *h, struct err *e)
{
	static const struct http_route routes[] = {{.method = "GET", .path = "/v1/agent/health", .handler = answer}};
	struct http_server_config c = {.listen = h->worker->config.health_listen, .routes = routes, .n_routes = 1, .ctx = h,
	    .authorise = anybody, .max_connections = CONNECTIONS_MAX, .idle_timeout_ms = IDLE_TIMEOUT_MS, .header_max_bytes = HEADER_MAX,
	    .write_queue_max_bytes = HEADER_MAX};

	if (c.listen[0] == '\0')
		return 0;
	h->http = http_server_new(h->loop, &c, e);
	return h->http != NULL ? 0 : err_prefix(e, e->code, "WORKER_HEALTH_LISTEN");
}

struct health *
health_new(struct worker *w, struct loop *l, void (*changed)(void *arg), void *arg, struct err *e)
{
	struct health *h = xcalloc(1, sizeof(*h));

	h->worker = w;
	h->loop = l;
	h->changed = changed;
	h->arg = arg;
	pthread_mutex_init(&h->lock, NULL);
	cond_init_mono(&h->wake);
	if (serve(h, e) != 0) {
		health_free(h);
		return NULL;
	}
	if (config_once(&w->config))
		return h;
	look(h, h->why); /* before the first lease */
	memcpy(h->last, h->why, sizeof(h->last));
	if (h->why[0] != '\0')
		log_warn(w->id, "takes no runs: %s", h->why);
	h->running = true;
	thread_start(&h->thread, "health", watch, h);
	return h;
}

void
health_free(struct health *h)
{
	if (h == NULL)
		return;
	if (h->running) {
		pthread_mutex_lock(&h->lock);
		h->stop = true;
		pthread_cond_broadcast(&h->wake);
		pthread_mutex_unlock(&h->lock);
		pthread_join(h->thread, NULL);
		h->running = false;
	}
	http_server_free(h->http);
	tools_release(&h->fresh);
	pthread_cond_destroy(&h->wake);
	pthread_mutex_destroy(&h->lock);
	free(h);
}
