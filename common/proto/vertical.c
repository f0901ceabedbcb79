#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "proto/metadata.h"
#include "proto/workflow.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define MiB (1024ll * 1024)
#define TOOLS_MAX 64
#define WARM_WORKERS_MAX 1000
#define HOUR_MS (3600 * 1000ll)
#define DAY_MS (24 * HOUR_MS)

/* Which class's values the nested keys fill. */
struct class_into {
	struct vertical *v;
	enum run_class class;
};

static int
take_name(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	struct vertical *vert = into;

	if (!json_is_string(v) || strcmp(json_string_value(v), vert->name) != 0)
		return meta_bad(d, at, "must be the folder's name, '%s'", vert->name);
	return 0;
}

static int
take_description(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_text(d, at, v, 4096, &((struct vertical *)into)->description);
}

static int
take_driver(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	static const char *const words[] = {"docker", "raw_exec"};

	if (meta_word(d, at, v, words, COUNT(words)) < 0)
		return ERR_INVALID;
	return meta_text(d, at, v, 16, &((struct vertical *)into)->driver);
}

static int
take_image(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_text(d, at, v, 512, &((struct vertical *)into)->image);
}

static int
take_slots(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_int(d, at, v, 1, 32, &((struct vertical *)into)->slots);
}

static int
take_window(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_int(d, at, v, 0, 10000, &((struct vertical *)into)->window);
}

static int
take_cpu(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	struct class_into *c = into;

	return meta_measure(d, at, v, num_cpu, 10, 256000, &c->v->cpu_millis[c->class]);
}

static int
take_memory(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	struct class_into *c = into;

	return meta_measure(d, at, v, num_size, 64 * MiB, 1024 * 1024 * MiB, &c->v->memory_bytes[c->class]);
}

static int
take_class(struct meta_doc *d, const char *at, const json_t *v, struct vertical *vert, enum run_class class)
{
	static const struct meta_key keys[] = {{"cpu", true, take_cpu}, {"memory", true, take_memory}};
	struct class_into into = {vert, class};

	return meta_object(d, at, v, keys, COUNT(keys), &into);
}

static int
take_normal(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return take_class(d, at, v, into, CLASS_NORMAL);
}

static int
take_large(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return take_class(d, at, v, into, CLASS_LARGE);
}

static int
take_classes(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	static const struct meta_key keys[] = {{"normal", true, take_normal}, {"large", true, take_large}};
	struct vertical *vert = into;
	int rc = meta_object(d, at, v, keys, COUNT(keys), into);

	if (rc == 0 && (vert->cpu_millis[CLASS_LARGE] < vert->cpu_millis[CLASS_NORMAL] ||
	    vert->memory_bytes[CLASS_LARGE] < vert->memory_bytes[CLASS_NORMAL]))
		rc = meta_bad(d, at, "large must not be smaller than normal");
	return rc;
}

/* --- the worker group --- */

static int
take_capacity(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	static const char *const words[] = {[CAPACITY_HYBRID] = "hybrid", [CAPACITY_WARM] = "warm", [CAPACITY_JOB] = "job"};
	int i = meta_word(d, at, v, words, COUNT(words));

	if (i < 0)
		return ERR_INVALID;
	((struct vertical *)into)->capacity = (enum capacity)i;
	return 0;
}

static int
take_min(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_int(d, at, v, 0, WARM_WORKERS_MAX, &((struct vertical_warm *)into)->min);
}

static int
take_max(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_int(d, at, v, 1, WARM_WORKERS_MAX, &((struct vertical_warm *)into)->max);
}

static int
take_count(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_int(d, at, v, 0, WARM_WORKERS_MAX, &((struct vertical_warm *)into)->count);
}

static int
take_warm_cpu(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_measure(d, at, v, num_cpu, 10, 256000, &((struct vertical_warm *)into)->cpu_millis);
}

static int
take_warm_memory(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_measure(d, at, v, num_size, 64 * MiB, 1024 * 1024 * MiB, &((struct vertical_warm *)into)->memory_bytes);
}

static int
take_strategy(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	static const char *const words[] = {"drover", "target-value", "pass-through"};
	struct vertical_warm *w = into;

	if (meta_word(d, at, v, words, COUNT(words)) < 0)
		return ERR_INVALID;
	return meta_text(d, at, v, 16, &w->strategy);
}

static int
take_target(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_int(d, at, v, 1, 100000, &((struct vertical_warm *)into)->target);
}

static int
take_drain(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_measure(d, at, v, num_duration, 1000, DAY_MS, &((struct vertical_warm *)into)->drain_ms);
}

#define POLICY(field) offsetof(struct vertical_warm, field)

const struct warm_key warm_keys[] = {
	{"evaluation_interval", true, POLICY(evaluation_interval_ms), 100, HOUR_MS, 10000},
	{"stabilization_up", true, POLICY(stabilization_up_ms), 0, DAY_MS, 0},
	{"stabilization_down", true, POLICY(stabilization_down_ms), 0, DAY_MS, 60000},
	{"cooldown", true, POLICY(cooldown_ms), 0, DAY_MS, 0},
	{"cooldown_on_scale_up", true, POLICY(cooldown_on_scale_up_ms), 0, DAY_MS, 0},
	{"stale_after", true, POLICY(stale_after_ms), 1000, HOUR_MS, 15000},
	{"foreign_hold", true, POLICY(foreign_hold_ms), 0, 7 * DAY_MS, 120000},
	{"start_failures", false, POLICY(start_failures), 1, 1000, 3},
	{"start_pause", true, POLICY(start_pause_ms), 1000, DAY_MS, 60000},
	{"service", true, POLICY(service_ms), 1000, 7 * DAY_MS, 30000},
	{"max_scale_up", false, POLICY(max_scale_up), 0, WARM_WORKERS_MAX, 0},
	{"max_scale_down", false, POLICY(max_scale_down), 0, WARM_WORKERS_MAX, 0},
};
const size_t n_warm_keys = COUNT(warm_keys);

int64_t *
warm_value(struct vertical_warm *w, const struct warm_key *k)
{
	return (int64_t *)(void *)((char *)w + k->offset);
}

/* A key of the table above; its name is the last part of `at`. */
static int
take_policy(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	const struct warm_key *k = warm_keys;

	while (strcmp(k->name, strrchr(at, '/') + 1) != 0)
		k++;
	if (k->duration)
		return meta_measure(d, at, v, num_duration, k->min, k->max, warm_value(into, k));
	return meta_int(d, at, v, k->min, k->max, warm_value(into, k));
}

static int
take_threshold(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	double share = json_is_number(v) ? json_number_value(v) : -1;

	if (!(share >= 0 && share <= 10))
		return meta_bad(d, at, "must be a number from 0 to 10: a share of the count");
	((struct vertical_warm *)into)->threshold = share;
	return 0;
}

static int
take_warm(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	static const struct meta_key own[] = {{"min", false, take_min}, {"max", false, take_max}, {"count", false, take_count},
	    {"cpu", false, take_warm_cpu}, {"memory", false, take_warm_memory}, {"strategy", false, take_strategy},
	    {"target", false, take_target}, {"drain", false, take_drain}, {"threshold", false, take_threshold}};
	struct meta_key keys[COUNT(own) + COUNT(warm_keys)];
	struct vertical_warm *w = &((struct vertical *)into)->warm;
	int rc;

	memcpy(keys, own, sizeof(own));
	for (size_t i = 0; i < COUNT(warm_keys); i++)
		keys[COUNT(own) + i] = (struct meta_key){warm_keys[i].name, false, take_policy};
	rc = meta_object(d, at, v, keys, COUNT(keys), w);

	if (rc == 0 && w->min > w->max)
		rc = meta_bad(d, at, "min must not be more than max");
	if (rc == 0 && w->count > w->max)
		rc = meta_bad(d, at, "count must not be more than max");
	return rc;
}

/* What the group does not say follows from the rest. */
static int
complete_warm(struct meta_doc *d, struct vertical *v)
{
	struct vertical_warm *w = &v->warm;

	if (w->strategy == NULL)
		w->strategy = xstrdup("drover");
	if (w->threshold < 0)
		w->threshold = strcmp(w->strategy, "drover") == 0 ? 0.1 : strcmp(w->strategy, "target-value") == 0 ? 0.01 : 0;
	if (w->cpu_millis == 0)
		w->cpu_millis = v->cpu_millis[CLASS_LARGE];
	if (w->memory_bytes == 0)
		w->memory_bytes = v->memory_bytes[CLASS_LARGE];
	if (w->count < w->min)
		w->count = w->min;
	if (v->capacity == CAPACITY_WARM && w->memory_bytes < v->memory_bytes[CLASS_LARGE])
		return meta_bad(d, "/warm", "with capacity warm no other worker takes what needs class large: memory must be at least that class's");
	return 0;
}

static int
take_tool_name(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_text(d, at, v, 64, &((struct vertical_tool *)into)->name);
}

static int
take_tool_probe(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	if (json_array_size(v) == 0)
		return meta_bad(d, at, "must be a list: the program and its arguments");
	return meta_list(d, at, v, WORKFLOW_ARGV_MAX, &((struct vertical_tool *)into)->probe);
}

static int
take_tools(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	static const struct meta_key keys[] = {{"name", true, take_tool_name}, {"probe", true, take_tool_probe}};
	struct vertical *vert = into;

	if (!json_is_array(v) || json_array_size(v) > TOOLS_MAX)
		return meta_bad(d, at, "must be a list of at most %d tools", TOOLS_MAX);
	vert->n_tools = json_array_size(v);
	vert->tools = xcalloc(vert->n_tools, sizeof(*vert->tools));
	for (size_t i = 0; i < vert->n_tools; i++) {
		char p[64];
		int rc;

		snprintf(p, sizeof(p), "%s/%zu", at, i);
		if ((rc = meta_object(d, p, json_array_get(v, i), keys, COUNT(keys), &vert->tools[i])) != 0)
			return rc;
	}
	return 0;
}

static const struct meta_key vertical_keys[] = {
	{"name", false, take_name}, {"description", true, take_description}, {"driver", false, take_driver},
	{"image", false, take_image}, {"slots", false, take_slots}, {"window", false, take_window},
	{"capacity", false, take_capacity}, {"warm", false, take_warm},
	{"classes", true, take_classes}, {"tools", true, take_tools},
};

int
vertical_parse(const char *file, const char *folder_name, const char *text, size_t len, struct vertical **ret, struct err *e)
{
	struct vertical *v = xcalloc(1, sizeof(*v));
	struct meta_doc d = {0};
	int rc;

	v->slots = 5;
	v->window = 8;
	v->warm = (struct vertical_warm){.max = 20, .target = 10, .drain_ms = 60000, .threshold = -1};
	for (size_t i = 0; i < COUNT(warm_keys); i++)
		*warm_value(&v->warm, &warm_keys[i]) = warm_keys[i].fallback;
	v->driver = xstrdup("docker");
	v->image = xstrdup("");
	if (!vertical_name_valid(folder_name)) {
		rc = err_set(e, ERR_INVALID, "%s:1: the folder's name '%.80s' is not lower-case letters, digits and -", file,
		    folder_name);
	} else {
		snprintf(v->name, sizeof(v->name), "%s", folder_name);
		rc = meta_open(&d, file, text, len, e);
	}
	if (rc == 0)
		rc = meta_object(&d, "", d.root, vertical_keys, COUNT(vertical_keys), v);
	if (rc == 0 && strcmp(v->driver, "docker") == 0 && v->image[0] == '\0')
		rc = meta_bad(&d, "", "driver docker needs an 'image'");
	if (rc == 0)
		rc = complete_warm(&d, v);
	meta_release(&d);
	if (rc == 0)
		*ret = v;
	else
		vertical_free(v);
	return rc;
}

void
vertical_free(struct vertical *v)
{
	if (v == NULL)
		return;
	for (size_t i = 0; i < v->n_tools; i++) {
		free(v->tools[i].name);
		meta_list_free(v->tools[i].probe);
	}
	free(v->tools);
	free(v->description);
	free(v->driver);
	free(v->image);
	free(v->warm.strategy);
	free(v);
}
