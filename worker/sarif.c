#include "worker/sarif.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/map.h"
#include "base/mem.h"
#include "proto/json_out.h"

#define LOCATIONS_MAX 100
#define TAGS_MAX 20
#define LINE_TEXT_MAX 1024
#define OTHER_FINGERPRINTS_MAX 8
#define TEXT_MAX 16384            /* of one message */
#define NAME_LEN_MAX 4096         /* of a rule's id, a file name, or a base */
#define CONTAINERS_MAX 1000000    /* objects and lists in one report: each costs some hundred bytes once it is parsed */
#define VALUES_MAX 6000000
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* By severity, worst first. */
static const char *const levels[] = {"error", "warning", "note", "none"};
#define LEVEL_NONE 3

/* One run while it is rewritten. */
struct work {
	const struct sarif_context *c;
	const json_t *in;    /* the run as it came */
	struct map *rules;   /* id → its object in `in` */
	struct map *seen;    /* digest of rule, path and line → how often, as a counter that is freed with the map */
	struct sarif_counts *counts;
	size_t *left_bytes;  /* of text that the report may still write: a short reference can stand for a long text, and often */
};

/* --- small helpers --- */

static const char *
text_of(const json_t *o, const char *name)
{
	return json_string_value(json_object_get(o, name));
}

static void
copy(json_t *to, const json_t *from, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		json_t *v = json_object_get(from, names[i]);

		if (v != NULL && !json_is_null(v))
			json_object_set(to, names[i], v);
	}
}

/* A name, or NULL where it is none or longer than any honest one. */
static const char *
name_of(const json_t *o, const char *name)
{
	const json_t *v = json_object_get(o, name);

	return json_string_length(v) <= NAME_LEN_MAX ? json_string_value(v) : NULL;
}

/* Whether so much text may still be written; if so, takes it. */
static bool
take_bytes(struct work *w, size_t n)
{
	if (n > *w->left_bytes)
		return false;
	*w->left_bytes -= n;
	return true;
}

/* A text from a tool without the places where the target lay, cut at TEXT_MAX. */
static json_t *
clean(struct work *w, const char *text)
{
	size_t len = strnlen(text, TEXT_MAX + 1);
	char *piece, *s;
	json_t *r;

	if (len > TEXT_MAX) {
		for (len = TEXT_MAX; len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80; len--)
			; /* not inside a character */
	}
	if (!take_bytes(w, len))
		return json_string("");
	piece = xstrndup(text, len);
	s = sarif_text(piece, w->c->prefixes);
	r = json_string(s);
	free(s);
	free(piece);
	return r;
}

static int
level_index(const char *word)
{
	for (size_t i = 0; word != NULL && i < COUNT(levels); i++) {
		if (strcmp(levels[i], word) == 0)
			return (int)i;
	}
	return -1;
}

/* --- rules --- */

static json_t *
rewrite_rule(const json_t *in)
{
	static const char *const kept[] = {"id", "name", "shortDescription", "fullDescription", "help", "helpUri",
	    "defaultConfiguration", "messageStrings", "deprecatedIds", "properties"};
	json_t *r = json_object(), *tags, *properties;

	copy(r, in, kept, COUNT(kept));
	tags = json_object_get(json_object_get(r, "properties"), "tags");
	if (json_array_size(tags) > TAGS_MAX) {
		properties = json_deep_copy(json_object_get(r, "properties"));
		tags = json_object_get(properties, "tags");
		while (json_array_size(tags) > TAGS_MAX)
			json_array_remove(tags, TAGS_MAX);
		json_object_set_new(r, "properties", properties);
	}
	return r;
}

static json_t *
rewrite_driver(struct work *w)
{
	static const char *const kept[] = {"name", "fullName", "version", "semanticVersion", "informationUri", "organization"};
	const json_t *driver = json_object_get(json_object_get(w->in, "tool"), "driver");
	json_t *r = json_object(), *rules = json_array(), *rule;
	size_t i;

	copy(r, driver, kept, COUNT(kept));
	json_array_foreach(json_object_get(driver, "rules"), i, rule)
	{
		const char *id = name_of(rule, "id");

		if (id == NULL || json_array_size(rules) >= SARIF_RULES_MAX || map_get(w->rules, id) != NULL)
			continue;
		map_put(w->rules, id, rule);
		json_array_append_new(rules, rewrite_rule(rule));
	}
	json_object_set_new(r, "rules", rules);
	return r;
}

/* --- locations --- */

static json_t *
rewrite_region(const json_t *in)
{
	static const char *const kept[] = {"startLine", "startColumn", "endLine", "endColumn", "snippet"};
	json_t *r;

	if (json_integer_value(json_object_get(in, "startLine")) < 1)
		return NULL;
	r = json_object();
	copy(r, in, kept, COUNT(kept));
	return r;
}

/* The file name that a location means, by itself or by its number in the run's list. */
static const char *
location_uri(const struct work *w, const json_t *location, const json_t **ret_owner)
{
	const json_t *index = json_object_get(location, "index");

	*ret_owner = location;
	if (text_of(location, "uri") != NULL || !json_is_integer(index) || json_integer_value(index) < 0)
		return name_of(location, "uri");
	*ret_owner = json_object_get(json_array_get(json_object_get(w->in, "artifacts"), (size_t)json_integer_value(index)), "location");
	return name_of(*ret_owner, "uri");
}

/* Relative to the target; a base that the tool names goes before it. */
static json_t *
rewrite_uri(struct work *w, const json_t *location)
{
	const json_t *owner;
	const char *uri = location_uri(w, location, &owner), *base_id = name_of(owner, "uriBaseId"), *base = NULL;
	char *whole, *relative;
	json_t *r;

	if (uri == NULL)
		return NULL;
	if (base_id != NULL && uri[0] != '/')
		base = name_of(json_object_get(json_object_get(w->in, "originalUriBaseIds"), base_id), "uri");
	if (!take_bytes(w, strlen(uri) + (base != NULL ? strlen(base) : 0)))
		return NULL;
	whole = base != NULL ? xasprintf("%s/%s", base, uri) : xstrdup(uri);
	relative = sarif_relative(whole, w->c->prefixes);
	r = json_string(relative);
	free(relative);
	free(whole);
	return r;
}

static json_t *
rewrite_locations(struct work *w, const json_t *in)
{
	json_t *list = json_array(), *location;
	size_t i;

	json_array_foreach(in, i, location)
	{
		const json_t *physical = json_object_get(location, "physicalLocation");
		json_t *uri = rewrite_uri(w, json_object_get(physical, "artifactLocation")), *region, *out;
		const char *message = text_of(json_object_get(location, "message"), "text");

		if (uri == NULL || json_array_size(list) >= LOCATIONS_MAX) {
			json_decref(uri);
			continue;
		}
		out = json_pack("{s:{s:{s:o}}}", "physicalLocation", "artifactLocation", "uri", uri);
		region = rewrite_region(json_object_get(physical, "region"));
		if (region != NULL)
			json_object_set_new(json_object_get(out, "physicalLocation"), "region", region);
		if (message != NULL)
			json_object_set_new(out, "message", json_pack("{s:o}", "text", clean(w, message)));
		json_array_append_new(list, out);
	}
	return list;
}

/* --- results --- */

static const char *
rule_id(const struct work *w, const json_t *in)
{
	const json_t *index = json_object_get(in, "ruleIndex"), *rules;

	if (name_of(in, "ruleId") != NULL)
		return name_of(in, "ruleId");
	if (name_of(json_object_get(in, "rule"), "id") != NULL)
		return name_of(json_object_get(in, "rule"), "id");
	rules = json_object_get(json_object_get(json_object_get(w->in, "tool"), "driver"), "rules");
	if (json_is_integer(index) && json_integer_value(index) >= 0)
		return name_of(json_array_get(rules, (size_t)json_integer_value(index)), "id");
	return NULL;
}

static int
result_level(const json_t *in, const json_t *rule)
{
	const char *kind = text_of(in, "kind");
	int level = level_index(text_of(in, "level"));

	if (level < 0 && kind != NULL && strcmp(kind, "fail") != 0)
		level = LEVEL_NONE;
	if (level < 0)
		level = level_index(text_of(json_object_get(rule, "defaultConfiguration"), "level"));
	return level >= 0 ? level : level_index("warning");
}

static const char *
result_message(const json_t *in, const json_t *rule, const char *id)
{
	const json_t *message = json_object_get(in, "message");
	const char *key = text_of(message, "id"), *text = text_of(message, "text");

	if (text == NULL)
		text = text_of(message, "markdown");
	if (text == NULL && key != NULL)
		text = text_of(json_object_get(json_object_get(rule, "messageStrings"), key), "text");
	if (text == NULL)
		text = text_of(json_object_get(rule, "shortDescription"), "text");
	return text != NULL ? text : id;
}

static bool
is_suppressed(const json_t *in)
{
	const json_t *list = json_object_get(in, "suppressions"), *s;
	size_t i;

	json_array_foreach(list, i, s)
	{
		const char *status = text_of(s, "status");

		if (status == NULL || strcmp(status, "accepted") == 0)
			return true;
	}
	return false;
}

/* How many results of this run had the same digest before. */
static int64_t
occurrence(struct work *w, const char *digest)
{
	int64_t *n = map_get(w->seen, digest);

	if (n == NULL) {
		n = xcalloc(1, sizeof(*n));
		map_put(w->seen, digest, n);
	}
	return (*n)++;
}

/* Stable as long as rule, file and the text of the line are, wherever in the file the line has moved to. */
static void
fingerprint(struct work *w, const char *id, const char *message, const json_t *locations, char *out, size_t out_len)
{
	const json_t *physical = json_object_get(json_array_get(locations, 0), "physicalLocation");
	const char *uri = text_of(json_object_get(physical, "artifactLocation"), "uri");
	int64_t line = json_integer_value(json_object_get(json_object_get(physical, "region"), "startLine"));
	char text[LINE_TEXT_MAX], hex[SHA256_HEX_LEN], *path = sarif_path(uri != NULL ? uri : "");
	struct sha256 *s = sha256_new();
	uint8_t digest[SHA256_LEN];

	if (line < 1 || w->c->line_of == NULL || !w->c->line_of(w->c->arg, path, line, text, sizeof(text)))
		(void)snprintf(text, sizeof(text), "%s", message);
	sha256_add(s, id, strlen(id) + 1);
	sha256_add(s, path, strlen(path) + 1);
	for (const char *p = text; *p != '\0'; p++) {
		if (strchr(" \t\r\n", *p) == NULL) /* indentation is not content */
			sha256_add(s, p, 1);
	}
	sha256_end(s, digest);
	hex_encode(digest, 16, hex);
	(void)snprintf(out, out_len, "%s:%lld", hex, (long long)occurrence(w, hex));
	free(path);
}

static json_t *
fingerprints(const json_t *in, const char *ours)
{
	json_t *r = json_object(), *v;
	const char *key;

	json_object_foreach(json_object_get(in, "partialFingerprints"), key, v)
	{
		if (json_is_string(v) && json_object_size(r) < OTHER_FINGERPRINTS_MAX)
			json_object_set(r, key, v);
	}
	json_object_set_new(r, SARIF_FINGERPRINT, json_string(ours));
	if (json_object_get(r, "primaryLocationLineHash") == NULL)
		json_object_set_new(r, "primaryLocationLineHash", json_string(ours));
	return r;
}

static json_t *
rewrite_result(struct work *w, const json_t *in)
{
	static const char *const kept[] = {"kind", "rank", "occurrenceCount", "suppressions", "properties"};
	const char *id = rule_id(w, in), *message;
	const json_t *rule = id != NULL ? map_get(w->rules, id) : NULL;
	json_t *r = json_object(), *related;
	char ours[80];

	id = id != NULL && take_bytes(w, strlen(id)) ? id : "unnamed";
	message = result_message(in, rule, id);
	copy(r, in, kept, COUNT(kept));
	json_object_set_new(r, "ruleId", json_string(id));
	json_object_set_new(r, "level", json_string(levels[result_level(in, rule)]));
	json_object_set_new(r, "message", json_pack("{s:o}", "text", clean(w, message)));
	json_object_set_new(r, "locations", rewrite_locations(w, json_object_get(in, "locations")));
	related = rewrite_locations(w, json_object_get(in, "relatedLocations"));
	if (json_array_size(related) > 0)
		json_object_set(r, "relatedLocations", related);
	json_decref(related);
	fingerprint(w, id, text_of(json_object_get(r, "message"), "text"), json_object_get(r, "locations"), ours, sizeof(ours));
	json_object_set_new(r, "partialFingerprints", fingerprints(in, ours));
	return r;
}

static int
level_of(const struct work *w, const json_t *in)
{
	const char *id = rule_id(w, in);

	return result_level(in, id != NULL ? map_get(w->rules, id) : NULL);
}

static void
count(struct sarif_counts *c, const json_t *in, int level)
{
	int64_t *const by_level[] = {&c->error, &c->warning, &c->note};

	if (is_suppressed(in))
		return;
	c->total++;
	if (level < LEVEL_NONE)
		(*by_level[level])++;
}

/* All results, or the worst SARIF_RESULTS_MAX of them; every one is counted, but only those are rewritten. */
static json_t *
rewrite_results(struct work *w, size_t *ret_left_out)
{
	json_t *kept = json_array(), *results = json_object_get(w->in, "results"), *result;
	size_t i, n = 0;
	bool all;

	json_array_foreach(results, i, result)
	{
		if (json_is_object(result)) {
			count(w->counts, result, level_of(w, result));
			n++;
		}
	}
	all = n <= SARIF_RESULTS_MAX;
	*ret_left_out = all ? 0 : n - SARIF_RESULTS_MAX;
	for (int level = 0; level <= (all ? 0 : LEVEL_NONE); level++) {
		json_array_foreach(results, i, result)
		{
			if (json_array_size(kept) == SARIF_RESULTS_MAX)
				break;
			if (json_is_object(result) && (all || level_of(w, result) == level))
				json_array_append_new(kept, rewrite_result(w, result));
		}
	}
	return kept;
}

/* --- runs --- */

static json_t *
notification(const char *level, const char *text)
{
	return json_pack("{s:s, s:{s:s}}", "level", level, "message", "text", text);
}

/* Whether the tool did its work, in the words of its own invocations; their notes without the places on the host. */
static json_t *
rewrite_invocation(struct work *w, size_t left_out)
{
	json_t *notes = json_array(), *invocation, *note;
	bool well = true;
	char text[120];
	size_t i, k;

	json_array_foreach(json_object_get(w->in, "invocations"), i, invocation)
	{
		well = well && !json_is_false(json_object_get(invocation, "executionSuccessful"));
		json_array_foreach(json_object_get(invocation, "toolExecutionNotifications"), k, note)
		{
			const char *message = text_of(json_object_get(note, "message"), "text");
			int level = level_index(text_of(note, "level"));
			json_t *cleaned;

			if (message == NULL || json_array_size(notes) >= LOCATIONS_MAX)
				continue;
			cleaned = clean(w, message);
			json_array_append_new(notes, notification(levels[level >= 0 ? level : 1], json_string_value(cleaned)));
			json_decref(cleaned);
		}
	}
	if (left_out > 0) {
		(void)snprintf(text, sizeof(text), "%zu results of the lowest levels were left out: one file takes %d", left_out, SARIF_RESULTS_MAX);
		json_array_append_new(notes, notification("warning", text));
	}
	return json_pack("{s:b, s:o}", "executionSuccessful", well, "toolExecutionNotifications", notes);
}

static void
free_counters(struct map *m)
{
	size_t cursor = 0;
	void *value;

	while (map_next(m, &cursor, NULL, &value))
		free(value);
	map_free(m);
}

static json_t *
rewrite_run(const struct sarif_context *c, const json_t *in, size_t *left_bytes, struct sarif_counts *counts)
{
	struct work w = {.c = c, .in = in, .rules = map_new(), .seen = map_new(), .counts = counts, .left_bytes = left_bytes};
	json_t *driver = rewrite_driver(&w), *results;
	const char *column_kind = text_of(in, "columnKind");
	size_t left_out;
	char *id = xasprintf("%s/", c->step);
	json_t *r;

	results = rewrite_results(&w, &left_out);
	r = json_pack("{s:{s:o}, s:{s:s}, s:[o], s:o}", "tool", "driver", driver, "automationDetails", "id", id, "invocations",
	    rewrite_invocation(&w, left_out), "results", results);
	if (column_kind != NULL)
		json_object_set_new(r, "columnKind", json_string(column_kind));
	free(id);
	map_free(w.rules);
	free_counters(w.seen);
	return r;
}

/* What makes a run unusable; NULL if nothing does. */
static const char *
complaint(const json_t *run)
{
	const char *name = text_of(json_object_get(json_object_get(run, "tool"), "driver"), "name");

	if (name == NULL || name[0] == '\0')
		return "a run names no tool";
	/* SARIF leaves results out where nothing was scanned: that is not the same as nothing found. */
	if (!json_is_array(json_object_get(run, "results")))
		return "a run has no list of results";
	return NULL;
}

int
sarif_normalise(const struct sarif_context *c, const char *text, size_t len, json_t **ret, struct sarif_counts *counts,
    struct err *e)
{
	struct json_shape shape;
	json_error_t where;
	json_t *in, *runs, *run, *out = NULL;
	const char *version, *bad = NULL;
	size_t i, left_bytes = SARIF_BYTES_MAX;
	int rc = 0;

	if (len > SARIF_BYTES_MAX)
		return err_set(e, ERR_TOOBIG, "larger than %d MiB", SARIF_BYTES_MAX >> 20);
	shape = json_shape(text, len); /* so many values would take all memory */
	if (shape.containers > CONTAINERS_MAX || shape.values > VALUES_MAX)
		return err_set(e, ERR_TOOBIG, "more than %d objects and lists, or %d values", CONTAINERS_MAX, VALUES_MAX);
	if (shape.depth > JSON_DEPTH_MAX)
		return err_set(e, ERR_TOOBIG, "nested more than %d deep", JSON_DEPTH_MAX);
	in = json_loadb(text, len, 0, &where);
	if (in == NULL)
		return err_set(e, ERR_INVALID, "not JSON: line %d: %.120s", where.line, where.text);
	version = text_of(in, "version");
	runs = json_object_get(in, "runs");
	if (version == NULL || strcmp(version, "2.1.0") != 0)
		bad = "not SARIF 2.1.0";
	else if (json_array_size(runs) == 0 || json_array_size(runs) > SARIF_RUNS_MAX)
		bad = "no runs, or more than 20";
	json_array_foreach(runs, i, run)
		bad = bad != NULL ? bad : complaint(run);
	if (bad != NULL) {
		rc = err_set(e, ERR_INVALID, "%s", bad);
		goto out;
	}
	out = sarif_new();
	json_array_foreach(runs, i, run)
		json_array_append_new(json_object_get(out, "runs"), rewrite_run(c, run, &left_bytes, counts));
	*ret = out;
out:
	json_decref(in);
	return rc;
}

bool
sarif_says_failed(const json_t *report)
{
	json_t *run;
	size_t i;

	json_array_foreach(json_object_get(report, "runs"), i, run)
	{
		if (json_is_false(json_object_get(json_array_get(json_object_get(run, "invocations"), 0), "executionSuccessful")))
			return true;
	}
	return false;
}

void
sarif_mark_failed(json_t *report, const char *reason)
{
	json_t *run, *invocation;
	size_t i;

	json_array_foreach(json_object_get(report, "runs"), i, run)
	{
		invocation = json_array_get(json_object_get(run, "invocations"), 0);
		json_object_set_new(invocation, "executionSuccessful", json_false());
		json_array_append_new(json_object_get(invocation, "toolExecutionNotifications"), notification("error", reason));
	}
}

json_t *
sarif_failed_run(const char *step, const char *reason)
{
	json_t *report = sarif_new();
	char *id = xasprintf("%s/", step);

	json_array_append_new(json_object_get(report, "runs"), json_pack("{s:{s:{s:s, s:[]}}, s:{s:s}, s:[{s:b, s:[]}], s:[]}", "tool",
	    "driver", "name", step, "rules", "automationDetails", "id", id, "invocations", "executionSuccessful", 0,
	    "toolExecutionNotifications", "results"));
	sarif_mark_failed(report, reason);
	free(id);
	return report;
}

json_t *
sarif_new(void)
{
	return json_pack("{s:s, s:s, s:[]}", "$schema", "https://json.schemastore.org/sarif-2.1.0.json", "version", "2.1.0", "runs");
}

size_t
sarif_add(json_t *file, const json_t *report)
{
	json_t *runs = json_object_get(file, "runs"), *run;
	size_t i, left_out = 0;

	json_array_foreach(json_object_get(report, "runs"), i, run)
	{
		if (json_array_size(runs) < SARIF_RUNS_MAX)
			json_array_append(runs, run);
		else
			left_out++;
	}
	return left_out;
}
