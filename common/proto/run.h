/* run.h - the words about runs that programs, ledger and API share: states, failure classes, fences, ids, object keys. Pure. */
#ifndef PROTO_RUN_H
#define PROTO_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define RUN_ID_MAX 96        /* "<workflow>-<16 hex>" and NUL */
#define WORKFLOW_NAME_MAX 64 /* [a-z][a-z0-9_-]*, with NUL */
#define VERTICAL_NAME_MAX 32 /* [a-z][a-z0-9-]*, with NUL */
#define TENANT_NAME_MAX 64
#define TARGET_ID_MAX 37     /* UUID shape, with NUL */
#define WORKER_ID_MAX 64
#define FENCE_TEXT_MAX 44    /* "<epoch>-<seq>" */
#define REASON_MAX 320

enum run_state { RUN_QUEUED, RUN_RUNNING, RUN_CANCELING, RUN_COMPLETED, RUN_FAILED, RUN_TIMED_OUT, RUN_CANCELED, RUN_STATES };

/* Why an attempt did not succeed; decides the retry (DESIGN §3). */
enum fail_class { FAIL_NONE, FAIL_TOOL, FAIL_LOST, FAIL_OOM, FAIL_INFRA, FAIL_INVALID, FAIL_HANDED_BACK, FAIL_TIMEOUT, FAIL_CLASSES };

/* Size of worker that a run needs: one parameterized job per vertical and class. */
enum run_class { CLASS_NORMAL, CLASS_LARGE, RUN_CLASSES };

/* The right to report one attempt: larger is newer; compared by equality with the run's. */
struct fence {
	uint64_t epoch; /* the dispatcher's leadership that gave the lease */
	uint64_t seq;   /* numbered over the ledger's life */
};

/* Words as in the API: "queued", …, "timed_out"; "tool", …, "" for FAIL_NONE; "normal", "large". */
const char *run_state_word(enum run_state s);
const char *fail_class_word(enum fail_class c);
const char *run_class_word(enum run_class c);

/* The reverse; false if the word is unknown. */
bool run_state_parse(const char *word, enum run_state *ret);
bool fail_class_parse(const char *word, enum fail_class *ret);
bool run_class_parse(const char *word, enum run_class *ret);

/* True for completed, failed, timed_out and canceled: nothing moves such a run any more. */
bool run_state_final(enum run_state s);

/* Fences are compared whole, written as "<epoch>-<seq>", and read back from exactly that (false for anything else). */
bool fence_equal(struct fence a, struct fence b);
char *fence_text(struct fence f, char out[FENCE_TEXT_MAX]);
bool fence_parse(const char *text, struct fence *ret);

/* "<workflow>-<16 hex>" from 8 bytes: random ones, or a digest's first ones where the id must be derivable (adopted runs). */
char *run_id_make(const char *workflow, const uint8_t bytes[8], char out[RUN_ID_MAX]);

/* Whether text has the form of the name (also the guard against path tricks in URLs and object keys). */
bool run_id_valid(const char *s);
bool workflow_name_valid(const char *s);
bool vertical_name_valid(const char *s);
bool target_id_valid(const char *s);
bool sha256_text_valid(const char *s); /* 64 lower-case hex digits, no prefix */

/* Object keys: "<target_id>/target", "<run_id>/<attempt>/<name>", "bundles/<sha256>.tar.zst". out_len >= 1,100.
 * name is relative, without "..", as store_key_valid demands. */
char *key_target(const char *target_id, char *out, size_t out_len);
char *key_result(const char *run_id, unsigned attempt, const char *name, char *out, size_t out_len);
char *key_bundle(const char *sha256, char *out, size_t out_len);

/* Names inside a result: the manifest is written last and makes the attempt complete. Older workers wrote the list of files into a
 * manifest of its own, beside a results.json without one. */
#define RESULT_MANIFEST "results.json"
#define RESULT_MANIFEST_OLD "manifest.json"
#define RESULT_SARIF "results.sarif"
#define RESULT_LOG "run.log"
#define RESULT_ARTIFACTS "artifacts/"

#endif
