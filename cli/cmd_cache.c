/* drover cache: what this machine's workers keep on disk. Works on the directory itself, beside live workers; no dispatcher. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/render.h"
#include "cli/text.h"
#include "storage/cache.h"

#define LIST_DEFAULT 20
#define LIST_MAX 10000000
#define SHORT_DIGEST 16

static struct cache *
open_cache(struct cli *c, struct err *e)
{
	const char *dir = args_value(&c->args, "cache-dir");

	return cache_open_existing(dir != NULL ? dir : c->settings.cache_dir, e);
}

static char *
size_text(int64_t bytes, char out[32])
{
	num_format_size(bytes, out, 32);
	if (bytes == INT64_MAX)
		snprintf(out, 32, "unknown");
	return out;
}

/* --- ls --- */

struct listing {
	struct table *table;
	json_t *entries; /* in place of the table */
	int64_t left, now_real_ms;
	bool more;
};

static const char *
state_of(const struct cache_entry *entry)
{
	if (entry->filling)
		return entry->in_use ? "being filled" : "left by a dead process";
	if (entry->in_use)
		return entry->transient ? "in use, kept no longer" : "in use";
	return entry->verified ? "" : "of an earlier boot";
}

static int
list_one(void *arg, const struct cache_entry *entry)
{
	struct listing *l = arg;
	char size[32], age[48], when[CLOCK_TEXT_LEN], digest[SHORT_DIGEST + 1];

	if (l->left-- == 0) {
		l->more = true;
		return 1;
	}
	clock_text(entry->used_real_ms, when);
	if (l->entries != NULL) {
		json_array_append_new(l->entries, json_pack("{s:s, s:s, s:I, s:I, s:s, s:b, s:b, s:b, s:b}", "sha256", entry->sha256,
		    "kind", entry->tree ? "tree" : "blob", "bytes", (json_int_t)entry->bytes, "inodes", (json_int_t)entry->inodes,
		    "used_at", when, "in_use", entry->in_use, "filling", entry->filling, "transient", entry->transient,
		    "verified", entry->verified));
		return 0;
	}
	snprintf(digest, sizeof(digest), "%.*s", SHORT_DIGEST, entry->sha256);
	table_add(l->table, (const char *const[]){digest, entry->tree ? "tree" : "blob", size_text(entry->bytes, size),
	    render_age(when, l->now_real_ms, age, sizeof(age)), state_of(entry)});
	return 0;
}

int
cmd_cache_ls(struct cli *c)
{
	static const struct column columns[] = {{"DIGEST", 0, NULL}, {"KIND", 0, NULL}, {"SIZE", TABLE_RIGHT, NULL},
		{"USED", 0, NULL}, {"STATE", TABLE_SHRINK, NULL}};
	struct listing l = {.left = LIST_DEFAULT, .now_real_ms = clock_real_ms()};
	struct cache *cache = NULL;
	struct err e = {0};
	int rc;

	if (args_int(&c->args, "limit", 0, LIST_MAX, &l.left, &e) != 0 || (cache = open_cache(c, &e)) == NULL)
		return cli_fail(&e);
	if (l.left == 0)
		l.left = -1;
	l.table = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	l.entries = c->settings.json ? json_array() : NULL;
	rc = cache_list(cache, list_one, &l, &e);
	cache_close(cache);
	if (rc < 0 || l.entries != NULL)
		table_free(l.table);
	else
		cli_print_table(c, l.table, "The cache is empty.");
	if (rc >= 0 && l.entries != NULL) {
		json_t *answer = json_pack("{s:O, s:b}", "entries", l.entries, "more", l.more);

		cli_print_json(answer);
		json_decref(answer);
	} else if (rc >= 0 && l.more) {
		fprintf(stderr, "There are more: -limit N\n");
	}
	json_decref(l.entries);
	return rc < 0 ? cli_fail(&e) : EXIT_FINE;
}

/* --- stat --- */

static json_t *
stats_json(const struct cache_stats *s)
{
	char swept[CLOCK_TEXT_LEN];
	json_t *o = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "bytes", (json_int_t)s->bytes, "transient_bytes",
	    (json_int_t)s->transient_bytes, "entries", (json_int_t)s->entries, "hits", (json_int_t)s->hits,
	    "misses", (json_int_t)s->misses, "evictions", (json_int_t)s->evictions, "evicted_bytes",
	    (json_int_t)s->evicted_bytes, "damaged", (json_int_t)s->damaged);

	json_object_set_new(o, "max_bytes", json_integer(s->max_bytes));
	json_object_set_new(o, "ttl_ms", json_integer(s->ttl_ms));
	json_object_set_new(o, "min_free_bytes", json_integer(s->min_free_bytes));
	json_object_set_new(o, "min_free_inodes", json_integer(s->min_free_inodes));
	json_object_set_new(o, "free_bytes", json_integer(s->free_bytes));
	json_object_set_new(o, "free_inodes", s->free_inodes == INT64_MAX ? json_null() : json_integer(s->free_inodes));
	json_object_set_new(o, "swept_at", json_string(clock_text(s->swept_real_ms, swept)));
	return o;
}

static void
print_stats(struct cli *c, const struct cache_stats *s)
{
	char a[32], b[32], text[160], when[CLOCK_TEXT_LEN], age[48];

	snprintf(text, sizeof(text), "%s of %s in %lld entries", size_text(s->bytes, a), size_text(s->max_bytes, b),
	    (long long)s->entries);
	cli_print_field(c, "Kept", text, NULL);
	if (s->transient_bytes > 0)
		cli_print_field(c, "Let through", size_text(s->transient_bytes, a), NULL);
	snprintf(text, sizeof(text), "%lld hits, %lld misses", (long long)s->hits, (long long)s->misses);
	cli_print_field(c, "Used", text, NULL);
	snprintf(text, sizeof(text), "%lld entries, %s", (long long)s->evictions, size_text(s->evicted_bytes, a));
	cli_print_field(c, "Evicted", text, NULL);
	if (s->damaged > 0) {
		snprintf(text, sizeof(text), "%lld entries were found damaged", (long long)s->damaged);
		cli_print_field(c, "Damage", text, "31");
	}
	snprintf(text, sizeof(text), "%s, %s stay free", size_text(s->free_bytes, a), size_text(s->min_free_bytes, b));
	cli_print_field(c, "Disk", text, NULL);
	if (s->free_inodes < INT64_MAX) {
		snprintf(text, sizeof(text), "%lld, %lld stay free", (long long)s->free_inodes, (long long)s->min_free_inodes);
		cli_print_field(c, "Inodes", text, NULL);
	}
	cli_print_field(c, "Unused goes", num_format_duration(s->ttl_ms, a, sizeof(a)), NULL);
	cli_print_field(c, "Swept", render_age(clock_text(s->swept_real_ms, when), clock_real_ms(), age, sizeof(age)), NULL);
}

int
cmd_cache_stat(struct cli *c)
{
	struct cache_stats s;
	struct err e = {0};
	struct cache *cache = open_cache(c, &e);
	json_t *o;

	if (cache == NULL)
		return cli_fail(&e);
	cache_stats(cache, &s);
	cache_close(cache);
	if (!c->settings.json) {
		print_stats(c, &s);
		return EXIT_FINE;
	}
	o = stats_json(&s);
	cli_print_json(o);
	json_decref(o);
	return EXIT_FINE;
}

/* --- rm, gc --- */

int
cmd_cache_rm(struct cli *c)
{
	struct err e = {0};
	struct cache *cache = open_cache(c, &e);
	json_t *removed = json_array();
	int code = EXIT_FINE;

	if (cache == NULL)
		code = cli_fail(&e);
	for (int i = 0; cache != NULL && i < c->args.n_words; i++) {
		int n = cache_remove(cache, c->args.words[i], &e);

		/* One that is in use does not keep the others. */
		if (n < 0)
			code = n == ERR_CONFLICT ? (cli_fail(&e), EXIT_FINDINGS) : cli_fail(&e);
		else if (c->settings.json)
			json_array_append_new(removed, json_string(c->args.words[i]));
		else
			printf("Removed %s\n", c->args.words[i]);
	}
	cache_close(cache);
	if (cache != NULL && c->settings.json) {
		json_t *answer = json_pack("{s:O}", "removed", removed);

		cli_print_json(answer);
		json_decref(answer);
	}
	json_decref(removed);
	return code;
}

int
cmd_cache_gc(struct cli *c)
{
	struct cache_stats before, after;
	struct err e = {0};
	struct cache *cache = open_cache(c, &e);
	char freed[32], left[32];
	int rc;

	if (cache == NULL)
		return cli_fail(&e);
	cache_stats(cache, &before);
	rc = cache_sweep(cache, &e);
	cache_stats(cache, &after);
	cache_close(cache);
	if (rc != 0)
		return cli_fail(&e);
	if (c->settings.json) {
		json_t *o = stats_json(&after);

		json_object_set_new(o, "evicted_now", json_integer(after.evictions - before.evictions));
		cli_print_json(o);
		json_decref(o);
	} else {
		printf("Evicted %lld entries, %s; %s are kept\n", (long long)(after.evictions - before.evictions),
		    size_text(after.evicted_bytes - before.evicted_bytes, freed), size_text(after.bytes, left));
	}
	return EXIT_FINE;
}

/* --- verify --- */

struct verifying {
	bool json;
	json_t *damaged, *foreign;
	int64_t counts[CACHE_FOREIGN + 1];
};

static void
verified(void *arg, const char *name, enum cache_verdict verdict)
{
	struct verifying *v = arg;

	v->counts[verdict]++;
	if (verdict == CACHE_DAMAGED)
		json_array_append_new(v->damaged, json_string(name));
	else if (verdict == CACHE_FOREIGN)
		json_array_append_new(v->foreign, json_string(name));
}

static void
print_names(const char *what, const json_t *names)
{
	size_t i;
	json_t *name;

	json_array_foreach(names, i, name)
	{
		char *safe = text_safe(json_string_value(name));

		printf("%s: %s\n", what, safe);
		free(safe);
	}
}

int
cmd_cache_verify(struct cli *c)
{
	struct verifying v = {.json = c->settings.json, .damaged = json_array(), .foreign = json_array()};
	struct err e = {0};
	struct cache *cache = open_cache(c, &e);
	int rc = cache == NULL ? ERR_IO : cache_verify(cache, verified, &v, interrupt_flag(), &e);
	int code = rc < 0 ? cli_fail(&e) : rc > 0 ? EXIT_FINDINGS : EXIT_FINE;

	cache_close(cache);
	if (rc >= 0 && v.json) {
		json_t *o = json_pack("{s:I, s:I, s:O, s:O}", "sound", (json_int_t)v.counts[CACHE_SOUND], "skipped",
		    (json_int_t)v.counts[CACHE_SKIPPED], "damaged", v.damaged, "foreign", v.foreign);

		cli_print_json(o);
		json_decref(o);
	} else if (rc >= 0) {
		print_names("damaged, taken out of service", v.damaged);
		print_names("none of the cache's, left alone", v.foreign);
		printf("%lld sound, %lld damaged, %lld looked at before their next use\n", (long long)v.counts[CACHE_SOUND],
		    (long long)v.counts[CACHE_DAMAGED], (long long)v.counts[CACHE_SKIPPED]);
	}
	json_decref(v.damaged);
	json_decref(v.foreign);
	return code;
}
