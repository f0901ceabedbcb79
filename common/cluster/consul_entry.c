#include "cluster/consul_entry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/num.h"

#define RENEW_MS 30000

struct consul_entry {
	struct loop *loop;
	struct work_pool *pool;
	struct consul_entry_config config; /* its texts are not kept, but for consul's */
	char service[64], id[160], host[128], check_url[192];
	int port;
	bool up, stopping;
	int rc;                   /* of the pool's thread while it is at it */
	struct err err;
	struct loop_timer timer;
};

static void renew(void *arg);

static void
renew_run(void *arg)
{
	struct consul_entry *c = arg;

	c->rc = consul_register(&c->config.consul, c->service, c->id, c->host, c->port, c->check_url, &c->err);
}

static void
renew_done(void *arg, bool began)
{
	static const struct err none;
	struct consul_entry *c = arg;
	bool before = c->up;

	if (!began)
		return;
	c->up = c->rc == 0;
	if (c->rc != 0)
		c->config.told(c->id, &c->err);
	else if (!before)
		c->config.told(c->id, &none);
	if (!c->stopping)
		loop_timer_set(c->loop, &c->timer, clock_mono_ms() + RENEW_MS, renew, c);
}

static void
renew(void *arg)
{
	struct consul_entry *c = arg;

	work_submit(c->pool, renew_run, renew_done, c);
}

/* "10.0.0.7:8700", "[::1]:8700" and "http://drover:8700" taken apart. */
static bool
take_address(struct consul_entry *c, const char *text)
{
	const char *at = strncmp(text, "http://", 7) == 0 ? text + 7 : strncmp(text, "https://", 8) == 0 ? text + 8 : text;
	const char *colon = strrchr(at, ':');
	bool bracket = at[0] == '[';
	int64_t port;

	if (colon == NULL || colon - at < (bracket ? 2 : 1) || colon - at >= (ptrdiff_t)sizeof(c->host) ||
	    num_int(colon + 1, 1, 65535, &port, NULL) != 0)
		return false;
	snprintf(c->host, sizeof(c->host), "%.*s", (int)(colon - at - (bracket ? 2 : 0)), at + bracket);
	c->port = (int)port;
	return true;
}

struct consul_entry *
consul_entry_new(struct loop *l, const struct consul_entry_config *config)
{
	struct consul_entry *c;
	struct err e = {0};

	if (config->consul.addr[0] == '\0')
		return NULL;
	c = xcalloc(1, sizeof(*c));
	c->loop = l;
	c->config = *config;
	snprintf(c->service, sizeof(c->service), "%s", config->service);
	snprintf(c->id, sizeof(c->id), "%s", config->id);
	snprintf(c->check_url, sizeof(c->check_url), "http://%.140s/v1/agent/health", config->bound);
	if (!take_address(c, config->advertise) && !take_address(c, config->bound))
		err_set(&e, ERR_INVALID, "'%.100s' is no host:port", config->bound);
	else
		c->pool = work_pool_new(l, "consul", 1, &e);
	if (c->pool == NULL) {
		c->config.told(c->id, &e);
		free(c);
		return NULL;
	}
	renew(c);
	return c;
}

void
consul_entry_free(struct consul_entry *c)
{
	struct err e;

	if (c == NULL)
		return;
	c->stopping = true;
	loop_timer_clear(c->loop, &c->timer);
	work_pool_free(c->pool);
	if (c->up && consul_deregister(&c->config.consul, c->id, &e) != 0)
		c->config.told(c->id, &e);
	free(c);
}
