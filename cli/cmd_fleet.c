/* drover workers, queue, version: the dispatcher's view of capacity. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/hold.h"
#include "cli/render.h"
#include "cli/text.h"

static char *
joined(const json_t *list)
{
	struct buf b = buf_make(65536);
	size_t i;
	json_t *v;

	json_array_foreach(list, i, v)
		buf_addf(&b, "%s%s", i > 0 ? ", " : "", json_string_value(v) != NULL ? json_string_value(v) : "?");
	return buf_take(&b);
}

/* What is worth knowing of a worker beside its numbers. */
static char *
notes_of(const json_t *w)
{
	char *missing = joined(json_object_get(w, "missing"));
	const char *health = json_text(w, "health");
	struct buf b = buf_make(70000);

	if (json_is_true(json_object_get(w, "draining")))
		buf_adds(&b, "draining");
	if (health[0] != '\0')
		buf_addf(&b, "%stakes no runs: %s", b.len > 0 ? "; " : "", health);
	if (missing[0] != '\0')
		buf_addf(&b, "%smissing: %s", b.len > 0 ? "; " : "", missing);
	free(missing);
	return buf_take(&b);
}

/* "1.2 GiB of 9.3 GiB" of what the worker's node keeps. */
static void
cache_text(const json_t *cache, char *out, size_t out_len)
{
	char has[32], max[32];

	out[0] = '\0';
	if (json_is_object(cache))
		snprintf(out, out_len, "%s of %s", num_format_size(json_number(cache, "bytes"), has, sizeof(has)),
		    num_format_size(json_number(cache, "max_bytes"), max, sizeof(max)));
}

/* On a terminal a column beside so many others has no room for reasons: they stand below, one worker a line. */
static void
print_notes(const json_t *workers)
{
	const char *before = "\n";
	size_t i;
	json_t *w;

	json_array_foreach((json_t *)workers, i, w)
	{
		char *notes = notes_of(w), *safe = text_safe(notes), *id = text_safe(json_text(w, "id"));

		if (safe[0] != '\0') {
			printf("%s%s: %s\n", before, id, safe);
			before = "";
		}
		free(id);
		free(safe);
		free(notes);
	}
}

static int
show_workers(struct cli *c, const json_t *answer)
{
	static const struct column columns[] = {{"WORKER", TABLE_SHRINK, NULL}, {"VERTICAL", 0, NULL}, {"CLASS", 0, NULL},
		{"MODE", 0, NULL}, {"RUNS", TABLE_RIGHT, NULL}, {"NODE", TABLE_SHRINK, NULL}, {"SEEN", TABLE_RIGHT, NULL},
		{"SANDBOX", TABLE_DROP, NULL}, {"WORKSPACES", TABLE_DROP, NULL}, {"CACHE", 0, NULL},
		{"NOTES", TABLE_SHRINK | TABLE_OPTIONAL, NULL}};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	const json_t *workers = json_object_get(answer, "workers");
	bool below = c->term.width > 0;
	size_t i;
	json_t *w;

	json_array_foreach((json_t *)workers, i, w)
	{
		char runs[48], seen[32], rung[32] = "", cache[80];
		const json_t *held = json_object_get(w, "cache");
		char *notes = notes_of(w);

		snprintf(runs, sizeof(runs), "%lld/%lld", (long long)json_number(w, "leases"), (long long)json_number(w, "slots"));
		num_format_duration(json_number(w, "seen_ms") / 1000 * 1000, seen, sizeof(seen));
		if (json_is_object(json_object_get(w, "sandbox")))
			snprintf(rung, sizeof(rung), "rung %lld", (long long)json_number(json_object_get(w, "sandbox"), "rung"));
		cache_text(held, cache, sizeof(cache));
		table_add(t, (const char *const[]){json_text(w, "id"), json_text(w, "vertical"), json_text(w, "class"),
		    json_text(w, "mode"), runs, json_text(w, "node"), seen, rung, json_text(held, "workspace_method"), cache,
		    below ? "" : notes});
		free(notes);
	}
	cli_print_table(c, t, "No workers.");
	if (below)
		print_notes(workers);
	return EXIT_FINE;
}

int
cmd_workers(struct cli *c)
{
	return cli_show(c, "/v1/workers", show_workers);
}

static void
print_depths(struct cli *c, const json_t *verticals)
{
	static const struct column columns[] = {{"VERTICAL", 0, NULL}, {"CLASS", 0, NULL}, {"QUEUED", TABLE_RIGHT, NULL},
		{"READY", TABLE_RIGHT, NULL}, {"RUNNING", TABLE_RIGHT, NULL}, {"OLDEST", TABLE_RIGHT, NULL},
		{"WORKERS", TABLE_RIGHT, NULL}, {"FREE", TABLE_RIGHT, NULL}, {"ASKED", TABLE_RIGHT, NULL},
		{"WINDOW", TABLE_RIGHT, NULL}};
	static const char *const numbers[] = {"queued", "ready", "running", NULL, "workers", "slots_free", "requests", "window"};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	size_t i;
	json_t *v;

	json_array_foreach(verticals, i, v)
	{
		char texts[8][32];
		const char *cells[10] = {json_text(v, "vertical"), json_text(v, "class")};

		for (size_t k = 0; k < 8; k++) {
			if (numbers[k] == NULL)
				num_format_duration(json_number(v, "oldest_ms") / 1000 * 1000, texts[k], sizeof(texts[k]));
			else
				snprintf(texts[k], sizeof(texts[k]), "%lld", (long long)json_number(v, numbers[k]));
			cells[k + 2] = texts[k];
		}
		table_add(t, cells);
	}
	cli_print_table(c, t, "Nothing is queued.");
}

static int
show_queue(struct cli *c, const json_t *answer)
{
	const json_t *nomad = json_object_get(answer, "nomad");
	char *state = xasprintf("%s%s%s", json_text(nomad, "state"), json_text(nomad, "reason")[0] != '\0' ? ": " : "",
	    json_text(nomad, "reason"));

	print_depths(c, json_object_get(answer, "verticals"));
	hold_print_pauses(c, json_object_get(answer, "paused"));
	hold_print_breakers(c, json_object_get(answer, "breakers"));
	hold_print_requests(c, json_object_get(answer, "requests"));
	printf("\n");
	cli_print_field(c, "Nomad", state, NULL);
	free(state);
	return EXIT_FINE;
}

int
cmd_queue(struct cli *c)
{
	return cli_show(c, "/v1/queue", show_queue);
}

int
cmd_version(struct cli *c)
{
	json_t *v;

	if (c->settings.json) {
		v = json_pack("{s:s}", "version", DROVER_VERSION);
		cli_print_json(v);
		json_decref(v);
	} else {
		printf("Drover v%s\n", DROVER_VERSION);
	}
	return EXIT_FINE;
}
