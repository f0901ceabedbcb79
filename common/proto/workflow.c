#include "proto/workflow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "proto/key_template.h"
#include "proto/metadata.h"

#define GiB (1024ll * 1024 * 1024)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Defaults where metadata says nothing; bounds keep arithmetic and the cluster safe. */
#define DEFAULT_CPU_MILLIS 500
#define DEFAULT_MEMORY_BYTES (GiB / 2)
#define DEFAULT_DISK_BYTES (2 * GiB)
#define DEFAULT_TIMEOUT_MS (30 * 60 * 1000ll)
#define TIMEOUT_MAX_MS (7 * 24 * 3600 * 1000ll)

static const char *const isolation_words[] = {"isolated", "shared", "copy-on-write"};
static const char *const execution_words[] = {"any", "warm", "job"};
static const char *const target_words[] = {"any", "tree", "file"};
static const char *const network_words[] = {"none", "egress"};
static const char *const failure_words[] = {"continue", "stop"};

/* --- steps --- */

static int
take_step_name(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	struct workflow_step *s = into;
	int rc = meta_text(d, at, v, 63, &s->name);

	return rc == 0 && !workflow_name_valid(s->name) ? meta_bad(d, at, "must be lower-case letters, digits, _ and -") : rc;
}

static int
take_step_run(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	struct workflow_step *s = into;

	if (json_array_size(v) == 0)
		return meta_bad(d, at, "must be a list: the program and its arguments");
	return meta_list(d, at, v, WORKFLOW_ARGV_MAX, &s->argv);
}

static int
take_step_timeout(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_measure(d, at, v, num_duration, 1000, TIMEOUT_MAX_MS, &((struct workflow_step *)into)->timeout_ms);
}

static int
take_step_findings(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	static const char *const words[] = {"sarif"};

	if (meta_word(d, at, v, words, 1) < 0)
		return ERR_INVALID;
	return meta_text(d, at, v, 8, &((struct workflow_step *)into)->findings);
}

static int
take_step_failure(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	int i = meta_word(d, at, v, failure_words, COUNT(failure_words));

	((struct workflow_step *)into)->stop_on_failure = i == 1;
	return i < 0 ? ERR_INVALID : 0;
}

static int
take_codes(struct meta_doc *d, const char *at, const json_t *v, int *codes, size_t *n)
{
	if (!json_is_array(v) || json_array_size(v) > 16)
		return meta_bad(d, at, "must be a list of at most 16 exit codes");
	*n = json_array_size(v);
	for (size_t i = 0; i < *n; i++) {
		int64_t code;

		if (meta_int(d, at, json_array_get(v, i), 0, 255, &code) != 0)
			return ERR_INVALID;
		codes[i] = (int)code;
	}
	return 0;
}

static int
take_ok(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	struct workflow_step *s = into;

	return take_codes(d, at, v, s->ok, &s->n_ok);
}

static int
take_found(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	struct workflow_step *s = into;

	return take_codes(d, at, v, s->found, &s->n_found);
}

static int
take_exit_codes(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	static const struct meta_key keys[] = {{"ok", false, take_ok}, {"findings", false, take_found}};
	struct workflow_step *s = into;
	int rc = meta_object(d, at, v, keys, COUNT(keys), s);

	for (size_t i = 0; rc == 0 && i < s->n_ok; i++) {
		for (size_t k = 0; rc == 0 && k < s->n_found; k++) {
			if (s->ok[i] == s->found[k])
				rc = meta_bad(d, at, "%d cannot be both ok and findings", s->ok[i]);
		}
	}
	return rc;
}

static const struct meta_key step_keys[] = {
	{"name", true, take_step_name}, {"run", true, take_step_run}, {"timeout", false, take_step_timeout},
	{"findings", false, take_step_findings}, {"exit_codes", false, take_exit_codes}, {"on_failure", false, take_step_failure},
};

static int
take_steps(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	struct workflow *w = into;

	if (!json_is_array(v) || json_array_size(v) == 0 || json_array_size(v) > WORKFLOW_STEPS_MAX)
		return meta_bad(d, at, "must be a list of 1 to %d steps", WORKFLOW_STEPS_MAX);
	w->n_steps = json_array_size(v);
	w->steps = xcalloc(w->n_steps, sizeof(*w->steps));
	for (size_t i = 0; i < w->n_steps; i++) {
		struct workflow_step *s = &w->steps[i];
		char p[64];
		int rc;

		s->n_ok = 1; /* exit code 0 */
		snprintf(p, sizeof(p), "%s/%zu", at, i);
		if ((rc = meta_object(d, p, json_array_get(v, i), step_keys, COUNT(step_keys), s)) != 0)
			return rc;
		for (size_t k = 0; k < i; k++) {
			if (strcmp(w->steps[k].name, s->name) == 0)
				return meta_bad(d, p, "a second step named '%s'", s->name);
		}
	}
	return 0;
}

/* --- resources --- */

static int
take_cpu(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_measure(d, at, v, num_cpu, 10, 256000, &((struct workflow *)into)->cpu_millis);
}

static int
take_memory(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_measure(d, at, v, num_size, 16 * 1024 * 1024, 1024 * GiB, &((struct workflow *)into)->memory_bytes);
}

static int
take_disk(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_measure(d, at, v, num_size, 1024 * 1024, 10240 * GiB, &((struct workflow *)into)->disk_bytes);
}

static int
take_timeout(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_measure(d, at, v, num_duration, 1000, TIMEOUT_MAX_MS, &((struct workflow *)into)->timeout_ms);
}

static int
take_resources(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	static const struct meta_key keys[] = {
		{"cpu", false, take_cpu}, {"memory", false, take_memory}, {"timeout", false, take_timeout}, {"disk", false, take_disk},
	};

	return meta_object(d, at, v, keys, COUNT(keys), into);
}

/* --- the rest of a workflow --- */

static int
take_name(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	struct workflow *w = into;

	if (!json_is_string(v) || !workflow_name_valid(json_string_value(v)))
		return meta_bad(d, at, "must be lower-case letters, digits, _ and -, at most %d", WORKFLOW_NAME_MAX - 1);
	if (strcmp(json_string_value(v), w->name) != 0)
		return meta_bad(d, at, "is '%s', but the folder is '%s'", json_string_value(v), w->name);
	return 0;
}

static int
take_version(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_text(d, at, v, 64, &((struct workflow *)into)->version);
}

static int
take_vertical(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	struct workflow *w = into;

	if (!json_is_string(v) || !vertical_name_valid(json_string_value(v)))
		return meta_bad(d, at, "must name a vertical: lower-case letters, digits and -");
	snprintf(w->vertical, sizeof(w->vertical), "%s", json_string_value(v));
	return 0;
}

static int
take_description(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_text(d, at, v, 4096, &((struct workflow *)into)->description);
}

static int
take_author(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_text(d, at, v, 256, &((struct workflow *)into)->author);
}

static int
take_tags(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	return meta_list(d, at, v, 32, &((struct workflow *)into)->tags);
}

/* Relative globs only: an artefact is below ${OUT}. */
static int
take_artifacts(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	struct workflow *w = into;
	int rc = meta_list(d, at, v, 64, &w->artifacts);

	for (size_t i = 0; rc == 0 && w->artifacts[i] != NULL; i++) {
		const char *g = w->artifacts[i];

		if (g[0] == '/' || strcmp(g, "..") == 0 || strncmp(g, "../", 3) == 0 || strstr(g, "/../") != NULL)
			rc = meta_bad(d, at, "'%.64s' must stay below ${OUT}", g);
	}
	return rc;
}

static int
take_isolation(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	int i = meta_word(d, at, v, isolation_words, COUNT(isolation_words));

	((struct workflow *)into)->isolation = (enum workflow_isolation)i;
	return i < 0 ? ERR_INVALID : 0;
}

static int
take_execution(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	int i = meta_word(d, at, v, execution_words, COUNT(execution_words));

	((struct workflow *)into)->execution = (enum workflow_execution)i;
	return i < 0 ? ERR_INVALID : 0;
}

static int
take_network(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	int i = meta_word(d, at, v, network_words, COUNT(network_words));

	((struct workflow *)into)->network_egress = i == 1;
	return i < 0 ? ERR_INVALID : 0;
}

static int
take_target(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	int i = meta_word(d, at, v, target_words, COUNT(target_words));

	((struct workflow *)into)->target = (enum workflow_target)i;
	return i < 0 ? ERR_INVALID : 0;
}

static int
take_parameters(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	struct workflow *w = into;
	struct err e = {0};

	if (schema_check(v, &e) != 0)
		return meta_bad(d, at, "%s", e.msg);
	json_decref(w->parameters);
	w->parameters = json_deep_copy(v);
	return 0;
}

static int
take_dependencies(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	static const char *const kinds[] = {"python", "node", "apt"};
	struct workflow *w = into;
	const char *kind;
	json_t *list;

	if (!json_is_object(v))
		return meta_bad(d, at, "must be a mapping of python, node and apt to lists");
	json_object_foreach((json_t *)v, kind, list) {
		json_t *word = json_string(kind);
		char **names = NULL, p[128];
		int known;

		snprintf(p, sizeof(p), "%s/%.64s", at, kind);
		known = meta_word(d, p, word, kinds, COUNT(kinds));
		json_decref(word);
		if (known < 0 || meta_list(d, p, list, 256, &names) != 0)
			return ERR_INVALID;
		meta_list_free(names);
	}
	json_decref(w->dependencies);
	w->dependencies = json_deep_copy(v);
	return 0;
}

static int
take_concurrency_key(struct meta_doc *d, const char *at, const json_t *v, void *into)
{
	struct workflow *w = into;

	if (json_is_string(v) && json_string_length(v) == 0)
		return 0;
	return meta_text(d, at, v, KEY_TEMPLATE_MAX, &w->concurrency_key);
}

static const struct meta_key workflow_keys[] = {
	{"name", false, take_name}, {"version", true, take_version}, {"vertical", true, take_vertical},
	{"description", true, take_description}, {"author", false, take_author}, {"tags", false, take_tags},
	{"workspace_isolation", false, take_isolation}, {"execution", false, take_execution},
	{"resources", false, take_resources}, {"network", false, take_network}, {"parameters", false, take_parameters},
	{"steps", true, take_steps}, {"artifacts", false, take_artifacts}, {"target", false, take_target},
	{"dependencies", false, take_dependencies}, {"concurrency_key", false, take_concurrency_key},
};

int
workflow_parse(const char *file, const char *folder_name, const char *text, size_t len, struct workflow **ret, struct err *e)
{
	struct workflow *w = xcalloc(1, sizeof(*w));
	struct meta_doc d;
	struct err bad = {0};
	int rc;

	w->cpu_millis = DEFAULT_CPU_MILLIS;
	w->memory_bytes = DEFAULT_MEMORY_BYTES;
	w->disk_bytes = DEFAULT_DISK_BYTES;
	w->timeout_ms = DEFAULT_TIMEOUT_MS;
	w->parameters = json_pack("{s:s, s:b, s:{}}", "type", "object", "additionalProperties", 0, "properties");
	w->dependencies = json_object();
	w->tags = xcalloc(1, sizeof(*w->tags));
	w->artifacts = xcalloc(1, sizeof(*w->artifacts));
	if (!workflow_name_valid(folder_name)) {
		rc = err_set(e, ERR_INVALID, "%s:1: the folder's name '%.80s' is not lower-case letters, digits, _ and -", file,
		    folder_name);
		d = (struct meta_doc){0};
	} else {
		snprintf(w->name, sizeof(w->name), "%s", folder_name);
		rc = meta_open(&d, file, text, len, e);
	}
	if (rc == 0)
		rc = meta_object(&d, "", d.root, workflow_keys, COUNT(workflow_keys), w);
	for (size_t i = 0; rc == 0 && i < w->n_steps; i++) {
		if (w->steps[i].timeout_ms > w->timeout_ms)
			rc = meta_bad(&d, "/steps", "step '%s' may run longer than resources.timeout", w->steps[i].name);
	}
	if (rc == 0 && w->concurrency_key != NULL && key_template_check(w->concurrency_key, w->parameters, &bad) != 0)
		rc = meta_bad(&d, "/concurrency_key", "%s%s%s", bad.msg, bad.hint[0] != '\0' ? "; known are " : "", bad.hint);
	meta_release(&d);
	if (rc == 0)
		*ret = w;
	else
		workflow_free(w);
	return rc;
}

void
workflow_free(struct workflow *w)
{
	if (w == NULL)
		return;
	for (size_t i = 0; i < w->n_steps; i++) {
		free(w->steps[i].name);
		free(w->steps[i].findings);
		meta_list_free(w->steps[i].argv);
	}
	free(w->steps);
	free(w->version);
	free(w->description);
	free(w->author);
	free(w->concurrency_key);
	meta_list_free(w->tags);
	meta_list_free(w->artifacts);
	json_decref(w->parameters);
	json_decref(w->dependencies);
	free(w);
}

static json_t *
list_json(char *const *list)
{
	json_t *a = json_array();

	for (size_t i = 0; list[i] != NULL; i++)
		json_array_append_new(a, json_string(list[i]));
	return a;
}

json_t *
workflow_json(const struct workflow *w)
{
	json_t *steps = json_array();

	for (size_t i = 0; i < w->n_steps; i++)
		json_array_append_new(steps, json_string(w->steps[i].name));
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:s, s:s, s:s, s:s, s:{s:I, s:I, s:I, s:I}, s:O, s:O, s:o}",
	    "name", w->name, "version", w->version, "vertical", w->vertical, "description", w->description,
	    "author", w->author != NULL ? w->author : "", "tags", list_json(w->tags), "target", target_words[w->target],
	    "isolation", isolation_words[w->isolation], "execution", execution_words[w->execution],
	    "network", network_words[w->network_egress], "resources", "cpu_millis", (json_int_t)w->cpu_millis,
	    "memory_bytes", (json_int_t)w->memory_bytes, "disk_bytes", (json_int_t)w->disk_bytes,
	    "timeout_ms", (json_int_t)w->timeout_ms, "parameters", w->parameters, "dependencies", w->dependencies,
	    "steps", steps);
}

int
workflow_class(const struct workflow *w, const struct vertical *v, enum run_class *ret, struct err *e)
{
	for (int c = CLASS_NORMAL; c < RUN_CLASSES; c++) {
		if (w->cpu_millis <= v->cpu_millis[c] && w->memory_bytes <= v->memory_bytes[c]) {
			*ret = (enum run_class)c;
			return 0;
		}
	}
	err_set(e, ERR_INVALID, "workflow '%s' asks for more than the largest class of vertical '%s' has", w->name, v->name);
	err_hint(e, "lower resources.cpu or resources.memory, or raise classes.large in vertical.yaml");
	return ERR_INVALID;
}
