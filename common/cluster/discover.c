#include "cluster/discover.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/threads.h"
#include "cluster/consul.h"
#include "cluster/endpoints.h"
#include "base/retry.h"

#define NOMAD_POLL_MS 5000
#define EMPTY_POLL_MS 500   /* while a service has no healthy instance */
#define CONSUL_PAUSE_MS 50 /* a catalogue that changes all the time does not make us spin */

enum source { FROM_URL, FROM_CONSUL, FROM_NOMAD };

struct discover {
	enum source source;
	char name[128], tag[64], scheme[8], node[128];
	struct consul_config consul;
	struct nomad_config nomad;
	pthread_t thread;
	bool running;
	atomic_bool stop;
	pthread_mutex_t lock;
	pthread_cond_t changed;      /* the list was set, or stop */
	struct endpoints list;       /* under lock */
	struct err why;              /* under lock: why the last look-up failed; code 0: it did not */
};

static const struct retry_policy watch_retry = {.max_attempts = RETRY_MAX_ATTEMPTS, .base_ms = 200, .cap_ms = 10000};

/* Takes a new list; an empty one or an error keeps the last good one. */
static void
take_list(struct discover *d, const struct endpoints *found, const struct err *why)
{
	pthread_mutex_lock(&d->lock);
	d->why = *why;
	if (why->code == 0 && found->n > 0)
		endpoints_replace(&d->list, found);
	else if (why->code == 0)
		err_set(&d->why, ERR_RETRY, "no healthy instance of service '%s'", d->name);
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
}

/* Waits up to ms, less if we are to stop. */
static void
pause_ms(struct discover *d, int64_t ms)
{
	int64_t until_mono_ms = clock_mono_ms() + ms;

	pthread_mutex_lock(&d->lock);
	while (!atomic_load(&d->stop) && cond_wait_until(&d->changed, &d->lock, until_mono_ms))
		;
	pthread_mutex_unlock(&d->lock);
}

static int
look_up_nomad(struct discover *d, struct nomad *n, struct endpoints *found, struct err *e)
{
	json_t *services = NULL, *s;
	size_t i;
	int rc = nomad_service(n, d->name, &services, e);

	json_array_foreach(services, i, s) {
		endpoints_add(found, d->scheme, json_string_value(json_object_get(s, "Address")),
		    json_integer_value(json_object_get(s, "Port")), false);
	}
	json_decref(services);
	return rc;
}

static void *
watch(void *arg)
{
	struct discover *d = arg;
	struct consul *consul = d->source == FROM_CONSUL ? consul_new(&d->consul) : NULL;
	struct nomad *nomad = d->source == FROM_NOMAD ? nomad_new(&d->nomad) : NULL;
	uint64_t index = 0;
	uint32_t failures = 0;

	while (!atomic_load(&d->stop)) {
		struct endpoints found = {.n = 0};
		struct err e = {0};
		int64_t delay_ms = d->source == FROM_NOMAD ? NOMAD_POLL_MS : CONSUL_PAUSE_MS;
		int rc = consul != NULL
		    ? consul_health(consul, d->name, d->tag, d->scheme, d->node, &index, &found, &d->stop, &e)
		    : look_up_nomad(d, nomad, &found, &e);

		if (rc == ERR_CANCELED)
			break;
		take_list(d, &found, &e);
		failures = rc != 0 ? failures + 1 : 0;
		/* A Consul that has just started may answer "none" with an index that the service's first entry never passes. */
		if (rc == 0 && found.n == 0 && consul != NULL) {
			index = 0;
			delay_ms = EMPTY_POLL_MS;
		}
		if (rc != 0) {
			uint64_t random;

			/* Who answers next may have lower indexes, and would let us wait for ours to be passed. */
			index = 0;
			random_bytes(&random, sizeof(random));
			if (failures >= watch_retry.max_attempts)
				failures = watch_retry.max_attempts - 1;
			delay_ms = 50 + retry_next(&watch_retry, failures, 0, random);
		}
		pause_ms(d, delay_ms);
	}
	consul_free(consul);
	nomad_free(nomad);
	return NULL;
}

/* "NAME[?tag=T&scheme=https]" into d. */
static int
parse_service(struct discover *d, const char *s, struct err *e)
{
	const char *q = strchr(s, '?');
	size_t len = q != NULL ? (size_t)(q - s) : strlen(s);
	char query[160], *save = NULL;

	if (len == 0 || len >= sizeof(d->name) || strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") < len)
		return err_set(e, ERR_INVALID, "'%.80s' names no service", s);
	snprintf(d->name, sizeof(d->name), "%.*s", (int)len, s);
	snprintf(d->scheme, sizeof(d->scheme), "http");
	snprintf(query, sizeof(query), "%s", q != NULL ? q + 1 : "");
	for (char *p = strtok_r(query, "&", &save); p != NULL; p = strtok_r(NULL, "&", &save)) {
		if (strncmp(p, "tag=", 4) == 0 && strlen(p + 4) < sizeof(d->tag))
			snprintf(d->tag, sizeof(d->tag), "%s", p + 4);
		else if (strcmp(p, "scheme=https") == 0 || strcmp(p, "scheme=http") == 0)
			snprintf(d->scheme, sizeof(d->scheme), "%s", p + 7);
		else
			return err_set(e, ERR_INVALID, "unknown option '%.40s' after the service's name (tag=, scheme=)", p);
	}
	return 0;
}

static int
parse_spec(struct discover *d, const char *spec, struct err *e)
{
	if (strncmp(spec, "consul://", 9) == 0) {
		d->source = FROM_CONSUL;
		return parse_service(d, spec + 9, e);
	}
	if (strncmp(spec, "nomad://", 8) == 0) {
		d->source = FROM_NOMAD;
		return parse_service(d, spec + 8, e);
	}
	d->source = FROM_URL;
	if ((strncmp(spec, "http://", 7) != 0 && strncmp(spec, "https://", 8) != 0) || endpoints_add_url(&d->list, spec) != 0) {
		err_set(e, ERR_INVALID, "'%.120s' is no address", spec);
		err_hint(e, "use http://HOST:PORT, https://HOST:PORT, consul://SERVICE or nomad://SERVICE");
		return ERR_INVALID;
	}
	return 0;
}

int
discover_new(const char *spec, const struct consul_config *consul, const struct nomad_config *nomad, const char *node,
    struct discover **ret, struct err *e)
{
	struct discover *d = xcalloc(1, sizeof(*d));
	int rc = parse_spec(d, spec, e);

	if (rc != 0) {
		free(d);
		return rc;
	}
	if (consul != NULL)
		d->consul = *consul;
	if (nomad != NULL)
		d->nomad = *nomad;
	snprintf(d->node, sizeof(d->node), "%s", node != NULL ? node : "");
	pthread_mutex_init(&d->lock, NULL);
	cond_init_mono(&d->changed);
	if (d->source != FROM_URL) {
		d->running = thread_try(&d->thread, "discover", watch, d) == 0;
		if (!d->running) {
			discover_free(d);
			return err_set(e, ERR_IO, "cannot start a thread to watch service '%s'", spec);
		}
	}
	*ret = d;
	return 0;
}

void
discover_free(struct discover *d)
{
	if (d == NULL)
		return;
	pthread_mutex_lock(&d->lock);
	atomic_store(&d->stop, true);
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
	if (d->running)
		pthread_join(d->thread, NULL);
	pthread_cond_destroy(&d->changed);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

int
discover_pick(struct discover *d, int64_t wait_ms, char *url, size_t url_len, struct err *e)
{
	int64_t until_mono_ms = clock_mono_ms() + wait_ms;
	int rc;

	pthread_mutex_lock(&d->lock);
	while (d->list.n == 0 && !atomic_load(&d->stop) && cond_wait_until(&d->changed, &d->lock, until_mono_ms))
		;
	rc = endpoints_pick(&d->list, clock_mono_ms(), url, url_len);
	if (rc != 0) {
		err_set(e, ERR_RETRY, "no address of '%s' is known: %.200s", d->name,
		    d->why.code != 0 ? d->why.msg : "its catalogue has not answered yet");
		rc = ERR_RETRY;
	}
	pthread_mutex_unlock(&d->lock);
	return rc;
}

void
discover_failed(struct discover *d, const char *url)
{
	pthread_mutex_lock(&d->lock);
	endpoints_failed(&d->list, url, clock_mono_ms());
	pthread_mutex_unlock(&d->lock);
}

/* A call to the store has its own retries: one wait here is enough to ride over a catalogue that has just started. */
int
discover_pick_s3(void *arg, char *url, size_t url_len, struct err *e)
{
	return discover_pick(arg, 2000, url, url_len, e);
}

void
discover_failed_s3(void *arg, const char *url)
{
	discover_failed(arg, url);
}
