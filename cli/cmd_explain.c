/* drover explain: why a run does not run, in one answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/hold.h"
#include "cli/render.h"
#include "cli/run_history.h"

/* nomad: whether there is any. */
static void
print_lane(struct cli *c, const json_t *lane, bool nomad)
{
	char text[400], oldest[32], more[80] = "";

	if (!json_is_object(lane))
		return;
	num_format_duration(json_number(lane, "oldest_ms") / 1000 * 1000, oldest, sizeof(oldest));
	if (json_number(lane, "oldest_ms") > 0)
		(void)snprintf(more, sizeof(more), "; the oldest has waited for %s", oldest);
	(void)snprintf(text, sizeof(text), "%s %s: %lld queued, %lld ready, %lld running%s", json_text(lane, "vertical"),
	    json_text(lane, "class"), (long long)json_number(lane, "queued"), (long long)json_number(lane, "ready"),
	    (long long)json_number(lane, "running"), more);
	cli_print_field(c, "Queue", text, NULL);
	(void)snprintf(more, sizeof(more), "; %lld of %lld one-shots in Nomad", (long long)json_number(lane, "requests"),
	    (long long)json_number(lane, "window"));
	(void)snprintf(text, sizeof(text), "%lld worker%s, %lld free slot%s%s", (long long)json_number(lane, "workers"),
	    json_number(lane, "workers") == 1 ? "" : "s", (long long)json_number(lane, "slots_free"),
	    json_number(lane, "slots_free") == 1 ? "" : "s", nomad ? more : "");
	cli_print_field(c, "Capacity", text, NULL);
}

static void
print_estimate(struct cli *c, const json_t *waiting)
{
	char text[400], in[32];
	int64_t estimate_ms = json_number(waiting, "estimate_ms");

	if (estimate_ms < 0 || !json_is_integer(json_object_get(waiting, "estimate_ms")))
		return;
	num_format_duration(estimate_ms / 1000 * 1000, in, sizeof(in));
	(void)snprintf(text, sizeof(text), "starts in about %s (%s)", in, json_text(waiting, "basis"));
	cli_print_field(c, "Estimate", text, NULL);
}

static void
print_ahead(struct cli *c, const json_t *waiting)
{
	char text[200];

	if (json_number(waiting, "position") <= 0)
		return;
	(void)snprintf(text, sizeof(text), "%lld; ahead are %lld of its own tenant and %lld of others",
	    (long long)json_number(waiting, "position"), (long long)json_number(waiting, "ahead_own"),
	    (long long)json_number(waiting, "ahead_others"));
	cli_print_field(c, "Place", text, NULL);
	(void)snprintf(text, sizeof(text), "%.0f %% of what the vertical gave lately went to its tenant",
	    100 * json_number_value(json_object_get(waiting, "share")));
	cli_print_field(c, "Share", text, NULL);
}

/* Also of a run that has no place in line: its wait goes on. */
static void
print_expiry(struct cli *c, const json_t *waiting)
{
	char text[100], left[32];

	if (!json_is_integer(json_object_get(waiting, "expires_ms")))
		return;
	num_format_duration(json_number(waiting, "expires_ms") / 1000 * 1000, left, sizeof(left));
	(void)snprintf(text, sizeof(text), "in %s, when its maximum wait is over", left);
	cli_print_field(c, "Given up", text, NULL);
}

static void
print_workers(struct cli *c, const json_t *workers)
{
	static const struct column columns[] = {{"WORKER", TABLE_SHRINK, NULL}, {"MODE", 0, NULL}, {"NODE", TABLE_SHRINK, NULL},
		{"STATE", 0, NULL}, {"RUNS", TABLE_RIGHT, NULL}, {"WHY", TABLE_SHRINK | TABLE_OPTIONAL | TABLE_WRAP, NULL}};
	struct table *t;
	char runs[48];
	size_t i;
	json_t *w;

	if (json_array_size(workers) == 0)
		return;
	t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	json_array_foreach(workers, i, w)
	{
		(void)snprintf(runs, sizeof(runs), "%lld/%lld", (long long)json_number(w, "leases"),
		    (long long)json_number(w, "slots"));
		table_add(t, (const char *const[]){json_text(w, "worker"), json_text(w, "mode"), json_text(w, "node"),
		    json_text(w, "state"), runs, json_text(w, "why")});
	}
	printf("\n");
	cli_print_table(c, t, "");
}

static int
show(struct cli *c, const json_t *answer)
{
	const json_t *x = json_object_get(answer, "explain"), *waiting = json_object_get(x, "waiting"),
	    *nomad = json_object_get(x, "nomad");
	char *away = xasprintf("away: %s", json_text(nomad, "reason"));

	cli_print_field(c, "Run", json_text(x, "run"), "1");
	cli_print_field(c, "Summary", json_text(x, "summary"), NULL);
	cli_print_field(c, "Waits for", json_text(waiting, "code"), "33");
	print_ahead(c, waiting);
	print_estimate(c, waiting);
	print_expiry(c, waiting);
	cli_print_field(c, "Not before", json_text(x, "not_before"), NULL);
	print_lane(c, json_object_get(x, "lane"), strcmp(json_text(nomad, "state"), "off") != 0);
	cli_print_field(c, "Nomad", strcmp(json_text(nomad, "state"), "away") == 0 ? away : "", "31");
	print_workers(c, json_object_get(x, "workers"));
	hold_print_breakers(c, json_object_get(x, "breakers"));
	hold_print_requests(c, json_object_get(x, "requests"));
	run_history_print(c, json_object_get(x, "history"));
	free(away);
	return EXIT_FINE;
}

int
cmd_explain(struct cli *c)
{
	struct buf path = buf_make(4096);
	int code = cli_show(c, api_path(&path, "/v1/run/", c->args.words[0], "/explain"), show);

	buf_release(&path);
	return code;
}
