#include "cli/hold.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/num.h"
#include "cli/render.h"

void
hold_print_pauses(struct cli *c, const json_t *pauses)
{
	static const struct column columns[] = {{"PAUSED", 0, NULL}, {"NAME", 0, NULL}, {"SINCE", 0, NULL}, {"BY", 0, NULL},
		{"REASON", TABLE_SHRINK | TABLE_OPTIONAL, NULL}};
	struct table *t;
	char age[48];
	size_t i;
	json_t *p;

	if (json_array_size(pauses) == 0)
		return;
	t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	json_array_foreach(pauses, i, p)
		table_add(t, (const char *const[]){json_text(p, "kind"), json_text(p, "name"),
		    render_age(json_text(p, "since"), clock_real_ms(), age, sizeof(age)), json_text(p, "by"), json_text(p, "reason")});
	printf("\n");
	cli_print_table(c, t, "");
}

void
hold_print_breakers(struct cli *c, const json_t *breakers)
{
	static const struct column columns[] = {{"BREAKER", 0, NULL}, {"NAME", 0, NULL}, {"STATE", 0, NULL},
		{"FAILURES", TABLE_RIGHT, NULL}, {"TRIED AGAIN", TABLE_RIGHT, NULL}, {"WHY", TABLE_SHRINK, NULL}};
	struct table *t;
	char failures[24], in[32];
	size_t i;
	json_t *b;

	if (json_array_size(breakers) == 0)
		return;
	t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	json_array_foreach(breakers, i, b)
	{
		snprintf(failures, sizeof(failures), "%lld", (long long)json_number(b, "failures"));
		num_format_duration(json_number(b, "until_ms") / 1000 * 1000, in, sizeof(in));
		table_add(t, (const char *const[]){json_text(b, "kind"), json_text(b, "name"), json_text(b, "state"), failures,
		    json_number(b, "until_ms") > 0 ? in : "", json_text(b, "why")});
	}
	printf("\n");
	cli_print_table(c, t, "");
}

void
hold_print_requests(struct cli *c, const json_t *requests)
{
	static const struct column columns[] = {{"REQUEST", TABLE_RIGHT, NULL}, {"VERTICAL", 0, NULL}, {"CLASS", 0, NULL},
		{"STATE", 0, NULL}, {"AGE", TABLE_RIGHT, NULL}, {"JOB", TABLE_SHRINK, NULL}};
	struct table *t;
	size_t i;
	json_t *r;

	if (json_array_size(requests) == 0)
		return;
	t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	json_array_foreach(requests, i, r)
	{
		char seq[24], age[32];

		snprintf(seq, sizeof(seq), "%lld", (long long)json_number(r, "seq"));
		num_format_duration(json_number(r, "age_ms") / 1000 * 1000, age, sizeof(age));
		table_add(t, (const char *const[]){seq, json_text(r, "vertical"), json_text(r, "class"), json_text(r, "state"), age,
		    json_text(r, "job_id")});
	}
	printf("\n");
	cli_print_table(c, t, "");
}
