#include "dispatcher/reuse.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define LOOKED_AT 200 /* runs on the target, newest first: one that many others followed is not looked for */

int
reuse_parse(const char *word, enum reuse *ret, struct err *e)
{
	static const char *const words[] = {[REUSE_NEVER] = "never", [REUSE_LIVE] = "live", [REUSE_COMPLETED] = "completed"};

	*ret = REUSE_NEVER;
	if (word == NULL)
		return 0;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(word, words[i]) == 0) {
			*ret = (enum reuse)i;
			return 0;
		}
	return err_set(e, ERR_INVALID, "reuse: 'never', 'live' or 'completed', not '%.40s'", word);
}

static const char *
text_in(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "";
}

static bool
alike(const struct reuse_want *w, const struct ledger_run *run)
{
	json_t *spec = json_loads(run->spec, 0, NULL);
	const json_t *target = json_object_get(spec, "target");
	bool same = strcmp(run->row.workflow, w->workflow) == 0 && strcmp(text_in(target, "id"), w->target->id) == 0 &&
	    strcmp(text_in(target, "kind"), w->kind) == 0 &&
	    (strcmp(w->kind, "tree") == 0 || strcmp(text_in(target, "name"), w->name) == 0) &&
	    json_equal(json_object_get(json_object_get(spec, "bundle"), "sha256"),
	        json_object_get(json_object_get(w->spec, "bundle"), "sha256")) &&
	    json_equal(json_object_get(spec, "params"), json_object_get(w->spec, "params"));

	json_decref(spec);
	return same;
}

struct look {
	const struct reuse_want *want;
	struct ledger_run *ret;
	bool found;
};

static int
look_at(void *arg, const struct ledger_run *run)
{
	struct look *k = arg;
	int64_t keep_ms = k->want->default_keep_ms, want_ms = json_integer_value(json_object_get(k->want->spec, "retention_ms"));

	/* Whose results are gone, or go sooner than is asked, is of no use. */
	if (k->found || run->results_gone || !alike(k->want, run) ||
	    (want_ms > 0 ? want_ms : keep_ms) > (run->retention_ms > 0 ? run->retention_ms : keep_ms))
		return 0;
	*k->ret = *run;
	k->ret->spec = xstrdup(run->spec);
	k->ret->detail = run->detail != NULL ? xstrdup(run->detail) : NULL;
	k->found = true;
	return 0;
}

int
reuse_find(struct ledger *l, const struct reuse_want *w, struct ledger_run *ret, struct err *e)
{
	const struct {
		enum reuse from;
		unsigned states;
		int64_t since_real_ms;
	} looks[] = {
		{REUSE_LIVE, 1u << RUN_QUEUED | 1u << RUN_RUNNING, 0},
		{REUSE_COMPLETED, 1u << RUN_COMPLETED, w->since_real_ms},
	};
	struct look k = {.want = w, .ret = ret};
	int rc = 0;

	for (size_t i = 0; rc == 0 && !k.found && i < sizeof(looks) / sizeof(looks[0]); i++) {
		struct ledger_filter f = {.tenant = w->tenant, .workflow = w->workflow, .target = w->target->id,
			.states = looks[i].states, .since_real_ms = looks[i].since_real_ms, .limit = LOOKED_AT};

		if (w->how >= looks[i].from)
			rc = ledger_runs(l, &f, look_at, &k, e);
	}
	if (rc == 0 && !k.found)
		rc = err_set(e, ERR_NOTFOUND, "no run is alike");
	return rc;
}

void
reuse_identity(const struct reuse_want *w, char out[SHA256_HEX_LEN])
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:O, s:O}", "tenant", w->tenant, "workflow", w->workflow, "target", w->target->id,
	    "kind", w->kind, "name", strcmp(w->kind, "tree") == 0 ? "" : w->name, "bundle",
	    json_object_get(json_object_get(w->spec, "bundle"), "sha256"), "params", json_object_get(w->spec, "params"));
	char *text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
	uint8_t hash[SHA256_LEN];

	sha256_of(text, strlen(text), hash);
	hex_encode(hash, sizeof(hash), out);
	free(text);
	json_decref(o);
}
