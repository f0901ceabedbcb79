/* workflow.h - the metadata of a workflow and of a vertical: strict, with file and line of what is wrong.
 *
 * metadata.yaml and vertical.yaml are untrusted input: size, depth and alias bounds, no tags, no duplicate keys, unknown keys
 * refused. libyaml is visible in yaml_json.c alone; values become JSON (jansson) with a line for each node.
 */
#ifndef PROTO_WORKFLOW_H
#define PROTO_WORKFLOW_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "proto/run.h"

#define WORKFLOW_FILE_MAX (256 * 1024) /* bytes of a metadata file */
#define WORKFLOW_STEPS_MAX 32
#define WORKFLOW_ARGV_MAX 64

enum workflow_isolation { ISOLATION_ISOLATED, ISOLATION_SHARED, ISOLATION_COPY_ON_WRITE };
enum workflow_execution { EXECUTION_ANY, EXECUTION_WARM, EXECUTION_JOB };
enum workflow_target { TARGET_ANY, TARGET_TREE_ONLY, TARGET_FILE_ONLY };

struct workflow_step {
	char *name;             /* [a-z][a-z0-9_-]*, unique in the workflow */
	char **argv;            /* NULL-terminated; ${NAME} is replaced from the step's environment */
	int64_t timeout_ms;     /* 0: the run's */
	char *findings;         /* "sarif": ${OUT}/<name>.sarif; NULL: none */
	int ok[16], found[16];  /* exit codes; default ok = {0}, found = {} */
	size_t n_ok, n_found;
	bool stop_on_failure;   /* on_failure: stop */
};

struct workflow {
	char name[WORKFLOW_NAME_MAX];
	char *version, *description, *author;
	char vertical[VERTICAL_NAME_MAX];
	char **tags, **artifacts;            /* NULL-terminated; artifacts are globs below ${OUT} */
	enum workflow_isolation isolation;
	enum workflow_execution execution;
	enum workflow_target target;
	bool network_egress;
	int64_t cpu_millis, memory_bytes, timeout_ms, disk_bytes;
	json_t *parameters;                  /* JSON Schema (object), never NULL */
	json_t *dependencies;                /* {"python":[…],"node":[…],"apt":[…]}, never NULL */
	char *concurrency_key;
	struct workflow_step *steps;
	size_t n_steps;
};

struct vertical_tool {
	char *name;
	char **probe; /* argv that prints a version and exits with 0 */
};

/* Where the runs of a vertical are executed: warm workers and one-shots, or one of them alone. */
enum capacity { CAPACITY_HYBRID, CAPACITY_WARM, CAPACITY_JOB };

struct vertical_warm { /* the worker group */
	int64_t min, max, count;         /* workers; count: at first */
	int64_t cpu_millis, memory_bytes; /* of one worker; by default as large as the large class */
	char *strategy;                  /* "drover", "target-value", "pass-through" */
	int64_t target;                  /* target-value: queued and running runs per worker */
	int64_t drain_ms;                /* drover: a backlog is to be worked off in this time */
	double threshold;                /* dead band: a share of the count */
	/* The autoscaler's other keys, by the names of its policy (docs/SCALING.md); counts of 0 workers: no limit. */
	int64_t evaluation_interval_ms, stabilization_up_ms, stabilization_down_ms, cooldown_ms, cooldown_on_scale_up_ms,
	    stale_after_ms, foreign_hold_ms, start_failures, start_pause_ms, service_ms, max_scale_up, max_scale_down;
};

struct warm_key { /* one of these: in vertical.yaml, as variable of workers.nomad.hcl */
	const char *name;
	bool duration; /* else a count */
	size_t offset; /* in struct vertical_warm; int64_t */
	int64_t min, max, fallback;
};
extern const struct warm_key warm_keys[];
extern const size_t n_warm_keys;

/* Where the key's value is in w. */
int64_t *warm_value(struct vertical_warm *w, const struct warm_key *k);

struct vertical {
	char name[VERTICAL_NAME_MAX];
	char *description, *driver, *image;
	int64_t slots, window;
	int64_t cpu_millis[RUN_CLASSES], memory_bytes[RUN_CLASSES];
	enum capacity capacity;
	struct vertical_warm warm;
	struct vertical_tool *tools;
	size_t n_tools;
};

/* YAML text to JSON. lines (may be NULL) takes a map from JSON pointer ("/steps/0/run") to line number, as JSON object.
 * ERR_INVALID with "FILE:LINE: reason". The caller decrefs. */
int yaml_to_json(const char *file, const char *text, size_t len, json_t **ret, json_t **lines, struct err *e);

/* Parses and validates metadata. folder_name gives the name where the file has none, and must agree where it has. `file` is
 * for messages. Returns 0 (free with workflow_free) or ERR_INVALID "FILE:LINE: KEY: reason". */
int workflow_parse(const char *file, const char *folder_name, const char *text, size_t len, struct workflow **ret, struct err *e);
void workflow_free(struct workflow *w);

/* The same for vertical.yaml. */
int vertical_parse(const char *file, const char *folder_name, const char *text, size_t len, struct vertical **ret, struct err *e);
void vertical_free(struct vertical *v);

/* As the API shows it (without bundle, loaded_at, source). New reference. */
json_t *workflow_json(const struct workflow *w);

/* The class of worker that fits the workflow's needs in this vertical; ERR_INVALID when none is large enough. */
int workflow_class(const struct workflow *w, const struct vertical *v, enum run_class *ret, struct err *e);

/* --- schema.c: the subset of JSON Schema that DESIGN §7 lists --- */

/* Whether the schema itself uses only known keywords with right types; ERR_INVALID "PATH: reason". */
int schema_check(const json_t *schema, struct err *e);

/* Merges defaults into a copy of value (NULL: {}), validates it, and returns it in *ret (new reference); ERR_INVALID "PATH: reason"
 * with a hint (allowed values, bounds). */
int schema_apply(const json_t *schema, const json_t *value, json_t **ret, struct err *e);

#endif
