/* drive_lease - submits runs and does the part of their workers, as fast as the dispatcher lets it:
 *
 *   drive_lease ADDRESS VERTICAL RUNS SUBMITTERS WORKERS SLOTS < BODY
 *
 * SUBMITTERS connections submit RUNS runs, one a request (BODY, "@SEQ@" replaced); WORKERS looping workers of SLOTS slots lease
 * what there is and report it as completed in the exchange in which they ask for more: nothing is executed.
 *
 * Prints one line of JSON: {"wall_ns", "leased", "reported", "exchanges", "submit_p50_ms", "submit_p99_ms", "exchange_p99_ms"}:
 * wall from the first submission to the acknowledgement of the last report. Exit 1 when anything was refused, 2: usage.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exchange.h"

#define MARK "@SEQ@"
#define HELD_MAX 32

enum { SUBMITTERS_MAX = 64, WORKERS_MAX = 64, TEXT_MAX = 80, SAMPLES_MAX = 1 << 20 };

static const char *address, *vertical;
static char body[REQUEST_MAX];
static long runs;
static int slots;
static int64_t *submit_ns, *exchange_ns;
static _Atomic long next_run, n_leased, n_reported, n_exchanges;
static pthread_barrier_t ready;

static void
die(const char *what, const char *detail)
{
	fprintf(stderr, "drive_lease: %s: %.500s\n", what, detail);
	exit(1);
}

/* One request and its answer, which must be a good one. */
static void
ask(struct connection *c, const char *path, const char *text, size_t len)
{
	static _Thread_local char request[REQUEST_MAX];
	int n = request_format(request, "POST", address, path, "", text, len);

	if (n < 0 || connection_open(c) != 0 || connection_send(c, request, (size_t)n) != 0 || connection_receive(c) != 0)
		die(path, n < 0 ? "the request is too long" : c->why);
	if (c->status / 100 != 2)
		die(path, c->body);
}

static struct connection *
connected(void)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (c == NULL || connection_init(c, address) != 0 || connection_open(c) != 0)
		die(address, c == NULL ? "no memory" : c->why);
	return c;
}

/* --- submitting --- */

static void *
submit(void *arg)
{
	struct connection *c = connected();
	const char *mark = strstr(body, MARK);
	char text[REQUEST_MAX];
	long i;

	(void)arg;
	pthread_barrier_wait(&ready);
	while ((i = next_run++) < runs) {
		int n = snprintf(text, sizeof(text), "%.*s%ld%s", (int)(mark - body), body, i, mark + strlen(MARK));
		int64_t began_ns = now_ns();

		ask(c, "/v1/runs", text, (size_t)n);
		submit_ns[i] = now_ns() - began_ns;
	}
	connection_close(c);
	free(c);
	return NULL;
}

/* --- working --- */

struct held {
	char run[TEXT_MAX], fence[TEXT_MAX];
};

/* The text after "KEY":" from p on, copied; NULL when there is none any more. */
static const char *
text_after(const char *p, const char *key, char out[TEXT_MAX])
{
	const char *end;

	p = strstr(p, key);
	if (p == NULL)
		return NULL;
	p += strlen(key);
	end = strchr(p, '"');
	if (end == NULL || end - p >= TEXT_MAX)
		die("answer", p);
	memcpy(out, p, (size_t)(end - p));
	out[end - p] = '\0';
	return end;
}

/* The leases of an answer. */
static size_t
read_leases(const char *answer, struct held held[HELD_MAX])
{
	const char *p = strstr(answer, "\"leases\":[");
	size_t n = 0;

	while (p != NULL && n < HELD_MAX && (p = text_after(p, "{\"run\":\"", held[n].run)) != NULL &&
	    (p = text_after(p, "\"fence\":\"", held[n].fence)) != NULL)
		n++;
	return n;
}

static size_t
count(const char *text, const char *what)
{
	size_t n = 0;

	for (; (text = strstr(text, what)) != NULL; text += strlen(what))
		n++;
	return n;
}

/* more: with a poll for the next runs. */
static size_t
write_exchange(char *text, const char *worker, const struct held *held, size_t n, bool more)
{
	size_t len = (size_t)snprintf(text, REQUEST_MAX, "{\"worker\":\"%s\",\"reports\":[", worker);

	for (size_t i = 0; i < n; i++)
		len += (size_t)snprintf(text + len, REQUEST_MAX - len, "%s{\"run\":\"%s\",\"fence\":\"%s\",\"outcome\":\"completed\"}",
		    i > 0 ? "," : "", held[i].run, held[i].fence);
	len += (size_t)snprintf(text + len, REQUEST_MAX - len, "]");
	if (more)
		len += (size_t)snprintf(text + len, REQUEST_MAX - len, ",\"lease\":{\"free\":%d,\"wait_ms\":100,\"held\":[]}", slots);
	return len + (size_t)snprintf(text + len, REQUEST_MAX - len, "}");
}

static void *
work(void *arg)
{
	struct connection *c = connected();
	struct held held[HELD_MAX];
	char text[REQUEST_MAX], worker[TEXT_MAX];
	size_t n = 0;
	int len;

	(void)snprintf(worker, sizeof(worker), "bench-%ld-%d", (long)now_ns(), *(int *)arg);
	len = snprintf(text, sizeof(text), "{\"worker\":\"%s\",\"vertical\":\"%s\",\"class\":\"normal\",\"mode\":\"loop\",\"slots\":%d}", worker,
	    vertical, slots);
	ask(c, "/v1/worker/register", text, (size_t)len);
	pthread_barrier_wait(&ready);
	while (n > 0 || n_reported < runs) {
		int64_t began_ns = now_ns();
		size_t reported = n;
		bool more = n_reported + (long)n < runs; /* of a longer queue the rest stays */
		long at;

		ask(c, "/v1/worker/exchange", text, write_exchange(text, worker, held, n, more));
		if (count(c->body, "\"result\":\"ok\"") != reported)
			die("report", c->body);
		if (reported > 0 && (at = n_exchanges++) < SAMPLES_MAX)
			exchange_ns[at] = now_ns() - began_ns;
		n = read_leases(c->body, held);
		n_reported += (long)reported;
		n_leased += (long)n;
	}
	len = snprintf(text, sizeof(text), "{\"worker\":\"%s\"}", worker);
	ask(c, "/v1/worker/leave", text, (size_t)len);
	connection_close(c);
	free(c);
	return NULL;
}

/* --- the figures --- */

static int
by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static double
percentile_ms(int64_t *ns, long n, int percent)
{
	if (n == 0)
		return 0;
	qsort(ns, (size_t)n, sizeof(ns[0]), by_value);
	return (double)ns[(n * percent + 99) / 100 - 1] / 1e6;
}

static int
number(const char *text, int min, int max)
{
	long n = strtol(text, NULL, 10);

	if (n < min || n > max)
		die("not a number in range", text);
	return (int)n;
}

int
main(int argc, char **argv)
{
	pthread_t threads[SUBMITTERS_MAX + WORKERS_MAX];
	int ids[WORKERS_MAX], submitters, workers;
	int64_t wall_ns;
	long n;

	if (argc != 7) {
		fprintf(stderr, "usage: drive_lease ADDRESS VERTICAL RUNS SUBMITTERS WORKERS SLOTS < BODY\n");
		return 2;
	}
	address = argv[1];
	vertical = argv[2];
	runs = number(argv[3], 1, SAMPLES_MAX);
	submitters = number(argv[4], 1, SUBMITTERS_MAX);
	workers = number(argv[5], 1, WORKERS_MAX);
	slots = number(argv[6], 1, HELD_MAX);
	body[fread(body, 1, sizeof(body) - 1, stdin)] = '\0';
	submit_ns = calloc((size_t)runs, sizeof(submit_ns[0]));
	exchange_ns = calloc(SAMPLES_MAX, sizeof(exchange_ns[0]));
	if (strstr(body, MARK) == NULL || submit_ns == NULL || exchange_ns == NULL ||
	    pthread_barrier_init(&ready, NULL, (unsigned)(submitters + workers + 1)) != 0)
		die("start", "no " MARK " in the body, or no memory");
	for (int i = 0; i < workers; i++) {
		ids[i] = i;
		pthread_create(&threads[i], NULL, work, &ids[i]);
	}
	for (int i = 0; i < submitters; i++)
		pthread_create(&threads[workers + i], NULL, submit, NULL);
	pthread_barrier_wait(&ready);
	wall_ns = now_ns();
	for (int i = 0; i < workers + submitters; i++)
		pthread_join(threads[i], NULL);
	wall_ns = now_ns() - wall_ns;
	n = n_exchanges < SAMPLES_MAX ? n_exchanges : SAMPLES_MAX;
	printf("{\"wall_ns\": %lld, \"leased\": %ld, \"reported\": %ld, \"exchanges\": %ld, \"submit_p50_ms\": %.3f, \"submit_p99_ms\": %.3f, "
	       "\"exchange_p99_ms\": %.3f}\n", (long long)wall_ns, (long)n_leased, (long)n_reported, (long)n_exchanges,
	    percentile_ms(submit_ns, runs, 50), percentile_ms(submit_ns, runs, 99), percentile_ms(exchange_ns, n, 99));
	free(submit_ns);
	free(exchange_ns);
	return n_reported >= runs && n_reported == n_leased ? 0 : 1;
}
