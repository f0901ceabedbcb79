#include "proto/run.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN_ID_HEX 16 /* digits after the workflow's name */
#define SEQ_DIGITS 20 /* of UINT64_MAX */

static const char *const state_words[RUN_STATES] = {
	[RUN_QUEUED] = "queued",       [RUN_RUNNING] = "running", [RUN_CANCELING] = "canceling", [RUN_COMPLETED] = "completed",
	[RUN_FAILED] = "failed",       [RUN_TIMED_OUT] = "timed_out", [RUN_CANCELED] = "canceled",
};
static const char *const fail_words[FAIL_CLASSES] = {
	[FAIL_NONE] = "",          [FAIL_TOOL] = "tool",       [FAIL_LOST] = "lost",               [FAIL_OOM] = "oom",
	[FAIL_INFRA] = "infra",    [FAIL_INVALID] = "invalid", [FAIL_HANDED_BACK] = "handed_back", [FAIL_TIMEOUT] = "timeout",
};
static const char *const class_words[RUN_CLASSES] = {[CLASS_NORMAL] = "normal", [CLASS_LARGE] = "large"};

/* The word's row, or -1. */
static int
word_find(const char *const *words, int n, const char *word)
{
	for (int i = 0; i < n; i++) {
		if (strcmp(words[i], word) == 0)
			return i;
	}
	return -1;
}

const char *
run_state_word(enum run_state s)
{
	assert((unsigned)s < RUN_STATES);
	return state_words[s];
}

const char *
fail_class_word(enum fail_class c)
{
	assert((unsigned)c < FAIL_CLASSES);
	return fail_words[c];
}

const char *
run_class_word(enum run_class c)
{
	assert((unsigned)c < RUN_CLASSES);
	return class_words[c];
}

bool
run_state_parse(const char *word, enum run_state *ret)
{
	int i = word_find(state_words, RUN_STATES, word);

	if (i >= 0)
		*ret = (enum run_state)i;
	return i >= 0;
}

bool
fail_class_parse(const char *word, enum fail_class *ret)
{
	int i = word_find(fail_words, FAIL_CLASSES, word);

	if (i >= 0)
		*ret = (enum fail_class)i;
	return i >= 0;
}

bool
run_class_parse(const char *word, enum run_class *ret)
{
	int i = word_find(class_words, RUN_CLASSES, word);

	if (i >= 0)
		*ret = (enum run_class)i;
	return i >= 0;
}

bool
run_state_final(enum run_state s)
{
	return s >= RUN_COMPLETED && s < RUN_STATES;
}

bool
fence_equal(struct fence a, struct fence b)
{
	return a.epoch == b.epoch && a.seq == b.seq;
}

char *
fence_text(struct fence f, char out[FENCE_TEXT_MAX])
{
	snprintf(out, FENCE_TEXT_MAX, "%" PRIu64 "-%" PRIu64, f.epoch, f.seq);
	return out;
}

/* Digits only, at least one, no leading zero, within 64 bits; *s moves behind them. */
static bool
digits_read(const char **s, uint64_t *ret)
{
	uint64_t v = 0;
	const char *p = *s;

	if (*p == '0' && isdigit((unsigned char)p[1]))
		return false;
	for (; isdigit((unsigned char)*p) && p - *s < SEQ_DIGITS; p++) {
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return false;
	}
	if (p == *s)
		return false;
	*s = p;
	*ret = v;
	return true;
}

bool
fence_parse(const char *text, struct fence *ret)
{
	struct fence f;

	if (!digits_read(&text, &f.epoch) || *text++ != '-' || !digits_read(&text, &f.seq) || *text != '\0')
		return false;
	*ret = f;
	return true;
}

char *
run_id_make(const char *workflow, const uint8_t bytes[8], char out[RUN_ID_MAX])
{
	int n = snprintf(out, RUN_ID_MAX, "%.*s-", WORKFLOW_NAME_MAX - 1, workflow);

	for (size_t i = 0; i < RUN_ID_HEX / 2; i++)
		snprintf(out + n + 2 * i, RUN_ID_MAX - (size_t)n - 2 * i, "%02x", bytes[i]);
	return out;
}

/* Length of s up to max; all of its characters but the first are lower-case letters, digits or in `more`, the first a letter. */
static bool
name_valid(const char *s, size_t len, size_t max, const char *more)
{
	if (len == 0 || len >= max || s[0] < 'a' || s[0] > 'z')
		return false;
	for (size_t i = 1; i < len; i++) {
		bool plain = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9');

		if (!plain && strchr(more, s[i]) == NULL)
			return false;
	}
	return true;
}

static bool
hex_valid(const char *s, size_t len)
{
	return strlen(s) == len && strspn(s, "0123456789abcdef") == len;
}

bool
run_id_valid(const char *s)
{
	const char *dash = strrchr(s, '-');

	return dash != NULL && hex_valid(dash + 1, RUN_ID_HEX) && name_valid(s, (size_t)(dash - s), WORKFLOW_NAME_MAX, "_-");
}

bool
workflow_name_valid(const char *s)
{
	return name_valid(s, strlen(s), WORKFLOW_NAME_MAX, "_-");
}

bool
vertical_name_valid(const char *s)
{
	return name_valid(s, strlen(s), VERTICAL_NAME_MAX, "-");
}

bool
target_id_valid(const char *s)
{
	static const char shape[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

	if (strlen(s) != sizeof(shape) - 1)
		return false;
	for (size_t i = 0; i < sizeof(shape) - 1; i++) {
		bool hex = (s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f');

		if (shape[i] == '-' ? s[i] != '-' : !hex)
			return false;
	}
	return true;
}

bool
sha256_text_valid(const char *s)
{
	return hex_valid(s, 64);
}

char *
key_target(const char *target_id, char *out, size_t out_len)
{
	snprintf(out, out_len, "%s/target", target_id);
	return out;
}

char *
key_result(const char *run_id, unsigned attempt, const char *name, char *out, size_t out_len)
{
	snprintf(out, out_len, "%s/%u/%s", run_id, attempt, name);
	return out;
}

char *
key_bundle(const char *sha256, char *out, size_t out_len)
{
	snprintf(out, out_len, "bundles/%s.tar.zst", sha256);
	return out;
}
