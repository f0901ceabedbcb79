#include "dispatcher/registration.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/num.h"

#define RENEW_MS 30000 /* an agent that lost its state gets the entry again */
#define SERVICE "drover-dispatcher"

struct registration {
	struct dispatcher *d;
	struct consul_config consul;
	char id[80], address[64], check_url[128];
	int port;
	bool busy, up;
	int rc;
	struct err err;
	struct loop_timer timer;
};

static void
renew_run(void *arg)
{
	struct registration *g = arg;

	g->rc = consul_register(&g->consul, SERVICE, g->id, g->address, g->port, g->check_url, &g->err);
}

static void renew(void *arg);

static void
renew_done(void *arg, bool began)
{
	struct registration *g = arg;

	g->busy = false;
	if (!began)
		return;
	if (g->rc != 0)
		log_warn("consul", "not registered: %s", g->err.msg);
	else if (!g->up)
		log_info("consul", "registered as %s", g->id);
	g->up = g->rc == 0;
	loop_timer_set(g->d->loop, &g->timer, clock_mono_ms() + RENEW_MS, renew, g);
}

static void
renew(void *arg)
{
	struct registration *g = arg;

	if (g->busy || g->d->stopping)
		return;
	g->busy = true;
	work_submit(g->d->stores, renew_run, renew_done, g);
}

/* "10.0.0.7:8700" and "[::1]:8700" taken apart. */
static bool
split_address(const char *text, char *host, size_t len, int *ret_port)
{
	const char *colon = strrchr(text, ':');
	int64_t port;

	if (colon == NULL || num_int(colon + 1, 1, 65535, &port, NULL) != 0 || (size_t)(colon - text) >= len)
		return false;
	if (text[0] == '[')
		snprintf(host, len, "%.*s", (int)(colon - text - 2), text + 1);
	else
		snprintf(host, len, "%.*s", (int)(colon - text), text);
	*ret_port = (int)port;
	return true;
}

void
registration_open(struct dispatcher *d)
{
	struct registration *g;
	const char *bound = http_server_address(d->http), *own = d->config->advertise;

	if (!d->config->consul_register || d->config->consul.addr[0] == '\0')
		return;
	g = xcalloc(1, sizeof(*g));
	g->d = d;
	g->consul = consul_settings_config(&d->config->consul);
	/* What workers shall use, where it is a plain URL; else what is bound. */
	own = strncmp(own, "http://", 7) == 0 ? own + 7 : strncmp(own, "https://", 8) == 0 ? own + 8 : bound;
	if (!split_address(own, g->address, sizeof(g->address), &g->port) &&
	    !split_address(bound, g->address, sizeof(g->address), &g->port)) {
		free(g);
		return;
	}
	snprintf(g->id, sizeof(g->id), SERVICE "-%s", d->ledger->uuid);
	snprintf(g->check_url, sizeof(g->check_url), "http://%.60s/v1/agent/health", bound);
	d->registration = g;
	renew(g);
}

void
registration_close(struct dispatcher *d)
{
	struct registration *g = d->registration;
	struct err e;

	if (g == NULL)
		return;
	loop_timer_clear(d->loop, &g->timer);
	if (g->up && consul_deregister(&g->consul, g->id, &e) != 0)
		log_warn("consul", "still registered: %s", e.msg);
}

void
registration_free(struct dispatcher *d)
{
	free(d->registration);
	d->registration = NULL;
}
