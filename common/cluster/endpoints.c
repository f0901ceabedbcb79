#include "cluster/endpoints.h"

#include <stdio.h>
#include <string.h>

static struct endpoint *
find(const struct endpoints *l, const char *url)
{
	for (size_t i = 0; i < l->n; i++) {
		if (strcmp(l->items[i].url, url) == 0)
			return (struct endpoint *)&l->items[i];
	}
	return NULL;
}

int
endpoints_add_url(struct endpoints *l, const char *url)
{
	size_t len = strlen(url);

	while (len > 0 && url[len - 1] == '/')
		len--;
	if (len == 0 || len >= ENDPOINT_URL_MAX || l->n == ENDPOINTS_MAX)
		return -1;
	for (size_t i = 0; i < len; i++) {
		if (url[i] <= ' ' || url[i] == '?' || url[i] == '#')
			return -1;
	}
	l->items[l->n] = (struct endpoint){0};
	snprintf(l->items[l->n].url, ENDPOINT_URL_MAX, "%.*s", (int)len, url);
	if (find(l, l->items[l->n].url) == NULL)
		l->n++;
	return 0;
}

void
endpoints_add(struct endpoints *l, const char *scheme, const char *address, int64_t port, bool near)
{
	char url[ENDPOINT_URL_MAX];
	bool v6;
	size_t before = l->n;

	if (address == NULL || address[0] == '\0' || port < 1 || port > 65535)
		return;
	v6 = strchr(address, ':') != NULL;
	if (snprintf(url, sizeof(url), "%s://%s%s%s:%d", scheme, v6 ? "[" : "", address, v6 ? "]" : "", (int)port) >= (int)sizeof(url))
		return;
	if (endpoints_add_url(l, url) == 0 && l->n > before)
		l->items[before].near = near;
}

void
endpoints_replace(struct endpoints *l, const struct endpoints *fresh)
{
	struct endpoints next = *fresh;

	for (size_t i = 0; i < next.n; i++) {
		const struct endpoint *old = find(l, next.items[i].url);

		if (old != NULL) {
			next.items[i].failures = old->failures;
			next.items[i].avoid_until_mono_ms = old->avoid_until_mono_ms;
		}
	}
	next.turn = l->turn;
	*l = next;
}

int
endpoints_pick(struct endpoints *l, int64_t now_mono_ms, char *url, size_t url_len)
{
	const struct endpoint *best = NULL, *soonest = NULL;

	for (size_t k = 0; k < l->n; k++) {
		const struct endpoint *p = &l->items[(l->turn + k) % l->n];

		if (soonest == NULL || p->avoid_until_mono_ms < soonest->avoid_until_mono_ms)
			soonest = p;
		if (p->avoid_until_mono_ms <= now_mono_ms && (best == NULL || (p->near && !best->near)))
			best = p;
	}
	if (best == NULL)
		best = soonest;
	if (best == NULL)
		return -1;
	l->turn = (size_t)(best - l->items) + 1;
	snprintf(url, url_len, "%s", best->url);
	return 0;
}

void
endpoints_failed(struct endpoints *l, const char *url, int64_t now_mono_ms)
{
	struct endpoint *p = find(l, url);
	int64_t avoid_ms = AVOID_FIRST_MS;

	if (p == NULL)
		return;
	/* One outage is met by many callers at once: it counts once. */
	if (p->avoid_until_mono_ms > now_mono_ms)
		return;
	/* Long after the last failure it starts over. */
	if (now_mono_ms - p->avoid_until_mono_ms > AVOID_MAX_MS)
		p->failures = 0;
	for (unsigned i = 0; i < p->failures && avoid_ms < AVOID_MAX_MS; i++)
		avoid_ms *= 2;
	p->failures++;
	p->avoid_until_mono_ms = now_mono_ms + (avoid_ms < AVOID_MAX_MS ? avoid_ms : AVOID_MAX_MS);
}
