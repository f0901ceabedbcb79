#include "autoscale/simulate.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "autoscale/sim.h"
#include "autoscale/sim_load.h"
#include "autoscale/sim_plot.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/settings.h"

#define LOADS_MAX 8
#define TEXT(env, flag, field, def, text) {env, flag, SETTING_TEXT, offsetof(struct wish, field), def, 0, 0, NULL, false, text}
#define NUMBER(env, flag, type, field, def, min, max, text) \
	{env, flag, SETTING_##type, offsetof(struct wish, field), def, min, max, NULL, false, text}

struct wish {
	char *load, *history, *vertical, *svg;
	int64_t seed, min, max, slots, start_ms;
	bool markdown;
};

static const struct setting rows[] = {
	TEXT("SIMULATE_LOAD", "load", load, "all", "Made-up load: poisson, bursts, diurnal, heavy-tailed, trickle, or all."),
	TEXT("SIMULATE_HISTORY", "history", history, "", "File with a recorded history (the answers of GET /v1/history, one after the other), '-' for standard input; plays that in place of made-up loads."),
	TEXT("SIMULATE_VERTICAL", "vertical", vertical, "", "Of a recorded history only the runs of this vertical."),
	NUMBER("SIMULATE_SEED", "seed", INT, seed, "1", 0, INT64_MAX, "The same seed makes the same loads."),
	NUMBER("SIMULATE_MIN", "min", INT, min, "0", 0, SIM_WORKERS_MAX, "Fewest workers."),
	NUMBER("SIMULATE_MAX", "max", INT, max, "20", 1, SIM_WORKERS_MAX, "Most workers."),
	NUMBER("SIMULATE_SLOTS", "slots", INT, slots, "5", 1, 64, "Runs at the same time per worker."),
	NUMBER("SIMULATE_START", "start", DURATION, start_ms, "5s", 0, 600000, "Time until a new worker takes work."),
	TEXT("SIMULATE_SVG", "svg", svg, "", "Write a picture there, too."),
	{"SIMULATE_MARKDOWN", "markdown", SETTING_BOOL, offsetof(struct wish, markdown), "false", 0, 0, NULL, false, "Print the table as Markdown."},
};

static const struct settings_table table = {
	.program = "drover-autoscale simulate",
	.summary = "plays a load through scaling policies, ours and others', and compares waiting, cost and killed runs",
	.rows = rows,
	.n = sizeof(rows) / sizeof(rows[0]),
};

/* The loads that are asked for. */
static int
make_loads(const struct wish *w, struct sim_load *loads, size_t *ret_n, struct err *e)
{
	if (w->history[0] != '\0') {
		*ret_n = 1;
		return sim_load_read(w->history, w->vertical, &loads[0], e);
	}
	for (size_t i = 0; i < sim_load_kinds() && *ret_n < LOADS_MAX; i++)
		if (strcmp(w->load, "all") == 0 || strcmp(w->load, sim_load_kind(i)) == 0)
			loads[(*ret_n)++] = sim_load_make(i, (uint64_t)w->seed);
	if (*ret_n > 0)
		return 0;
	(void)err_set(e, ERR_INVALID, "-load: '%.40s' is no load", w->load);
	return err_hint(e, "poisson, bursts, diurnal, heavy-tailed, trickle, or all");
}

static void
print_row(bool markdown, const char *load, const char *policy, const struct sim_result *r)
{
	printf(markdown ? "| %s | %s | %.1f | %.1f | %.1f | %.1f | %lld | %lld |\n" :
	    "%-14s %-16s %9.1f %9.1f %9.1f %10.1f %8lld %8lld\n", load, policy, r->wait_p50_s, r->wait_p95_s, r->wait_p99_s,
	    r->worker_hours, (long long)r->actions, (long long)r->killed);
}

static void
print_table(const struct wish *w, const struct sim_load *loads, size_t n_loads, const struct sim_policy *p, size_t n,
    const struct sim_result *r)
{
	if (w->markdown)
		printf("| load | policy | wait p50, s | p95 | p99 | worker-hours | scale actions | killed runs |\n"
		       "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n");
	else
		printf("%-14s %-16s %9s %9s %9s %10s %8s %8s\n", "LOAD", "POLICY", "P50 s", "P95 s", "P99 s", "WORKER-H", "ACTIONS",
		    "KILLED");
	for (size_t i = 0; i < n_loads; i++)
		for (size_t k = 0; k < n; k++)
			print_row(w->markdown, loads[i].name, p[k].name, &r[i * n + k]);
}

static int
write_plot(const char *path, const struct sim_load *loads, size_t n_loads, const struct sim_policy *p, size_t n,
    const struct sim_result *r, struct err *e)
{
	struct buf b = buf_make(SIM_PLOT_MAX_BYTES);
	const char *slash = strrchr(path, '/');
	char *folder = slash != NULL ? xstrndup(path, (size_t)(slash - path) + 1) : xstrdup(".");
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	sim_plot(&b, loads, n_loads, p, n, r);
	if (fd < 0)
		rc = err_set(e, ERR_IO, "%s is no folder", folder);
	else
		rc = file_replace(fd, slash != NULL ? slash + 1 : path, buf_str(&b), b.len, 0644, e);
	if (fd >= 0)
		close(fd);
	free(folder);
	buf_release(&b);
	return rc;
}

static int
simulate(const struct wish *w, struct err *e)
{
	struct sim_cluster c = {.min = w->min, .max = w->max, .slots = w->slots, .start_ms = w->start_ms};
	struct sim_load loads[LOADS_MAX] = {0};
	const struct sim_policy *policies;
	size_t n_loads = 0, n = sim_policies(&policies);
	struct sim_result *results = xcalloc(LOADS_MAX * n, sizeof(*results));
	int rc = w->min <= w->max ? make_loads(w, loads, &n_loads, e) : err_set(e, ERR_INVALID, "-min is larger than -max");

	for (size_t i = 0; i < n_loads && rc == 0; i++)
		for (size_t k = 0; k < n; k++)
			results[i * n + k] = sim_play(&loads[i], &policies[k], &c);
	if (rc == 0) {
		print_table(w, loads, n_loads, policies, n, results);
		if (w->svg[0] != '\0')
			rc = write_plot(w->svg, loads, n_loads, policies, n, results, e);
	}
	for (size_t i = 0; i < n_loads; i++)
		sim_load_release(&loads[i]);
	free(results);
	return rc;
}

int
simulate_main(int argc, char **argv)
{
	struct wish w = {0};
	struct err e = {0};
	int rc;

	if (settings_wants_help(argc, argv)) {
		settings_help(&table, stdout);
		return 0;
	}
	rc = settings_load(&table, &w, argc, argv, NULL, &e);
	if (rc == 0) {
		rc = simulate(&w, &e);
		settings_release(&table, &w);
	}
	if (rc == 0)
		return 0;
	fprintf(stderr, "drover-autoscale simulate: %s\n", e.msg);
	if (e.hint[0] != '\0')
		fprintf(stderr, "  %s\n", e.hint);
	return rc == ERR_INVALID ? 2 : 1;
}
