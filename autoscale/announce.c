#include "autoscale/announce.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/num.h"

#define RENEW_MS 30000 /* an agent that lost its state gets the entry again */
#define SERVICE "drover-autoscale"

struct announce {
	struct loop *loop;
	struct work_pool *pool;
	struct consul_config consul;
	char id[160], host[128], check_url[192];
	int64_t port;
	bool up, stopping;
	int rc;
	struct err err;
	struct loop_timer timer;
};

static void renew(void *arg);

static void
renew_run(void *arg)
{
	struct announce *a = arg;

	a->rc = consul_register(&a->consul, SERVICE, a->id, a->host, (int)a->port, a->check_url, &a->err);
}

static void
renew_done(void *arg, bool began)
{
	struct announce *a = arg;

	if (!began || a->stopping)
		return;
	if (a->rc != 0)
		log_warn("consul", "not registered: %s", a->err.msg);
	else if (!a->up)
		log_info("consul", "registered as %s", a->id);
	a->up = a->rc == 0;
	loop_timer_set(a->loop, &a->timer, clock_mono_ms() + RENEW_MS, renew, a);
}

static void
renew(void *arg)
{
	struct announce *a = arg;

	work_submit(a->pool, renew_run, renew_done, a);
}

struct announce *
announce_new(struct loop *l, const struct config *c, const char *bound)
{
	const char *at = c->advertise[0] != '\0' ? c->advertise : bound, *colon = strrchr(at, ':');
	struct announce *a;
	struct err e;

	if (!c->consul_register || c->consul.addr[0] == '\0' || colon == NULL)
		return NULL;
	a = xcalloc(1, sizeof(*a));
	a->loop = l;
	a->consul = consul_settings_config(&c->consul);
	(void)snprintf(a->host, sizeof(a->host), "%.*s", (int)(colon - at - 2 * (at[0] == '[')), at + (at[0] == '['));
	(void)snprintf(a->id, sizeof(a->id), SERVICE "-%.120s", at);
	(void)snprintf(a->check_url, sizeof(a->check_url), "http://%.140s/v1/agent/health", bound);
	if (num_int(colon + 1, 1, 65535, &a->port, &e) != 0 || (a->pool = work_pool_new(l, "consul", 1, &e)) == NULL) {
		log_warn("consul", "not registered: %s", e.msg);
		free(a);
		return NULL;
	}
	renew(a);
	return a;
}

void
announce_free(struct announce *a)
{
	struct err e;

	if (a == NULL)
		return;
	a->stopping = true;
	loop_timer_clear(a->loop, &a->timer);
	work_pool_free(a->pool);
	if (a->up && consul_deregister(&a->consul, a->id, &e) != 0)
		log_warn("consul", "still registered: %s", e.msg);
	free(a);
}
