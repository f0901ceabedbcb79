#include "dispatcher/run_filter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

static char *
keep(struct run_filter *f, const char *text)
{
	if (text == NULL || text[0] == '\0')
		return NULL;
	return f->texts[f->n_texts++] = xstrdup(text);
}

static int
set_states(struct run_filter *f, const char *text, struct err *e)
{
	while (text != NULL && *text != '\0') {
		size_t len = strcspn(text, ",");
		char word[16];
		enum run_state state;

		snprintf(word, sizeof(word), "%.*s", (int)len, text);
		if (!run_state_parse(word, &state)) {
			err_set(e, ERR_INVALID, "state: '%s' is not a state", word);
			return err_hint(e, "queued, running, canceling, completed, failed, timed_out, canceled");
		}
		f->filter.states |= 1u << state;
		text += len + (text[len] == ',');
	}
	return 0;
}

static int
set_label(struct run_filter *f, const char *text, struct err *e)
{
	char *copy, *value;

	if (text == NULL || text[0] == '\0')
		return 0;
	if (strlen(text) >= LEDGER_LABEL_MAX || strchr(text, '=') == NULL || text[0] == '=')
		return err_set(e, ERR_INVALID, "label: expected name=value");
	copy = keep(f, text);
	value = strchr(copy, '=');
	*value++ = '\0';
	if (copy[strspn(copy, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-")] != '\0')
		return err_set(e, ERR_INVALID, "label: '%.64s' cannot be a label's name", copy);
	f->filter.label_key = copy;
	f->filter.label_value = value;
	return 0;
}

static int
set_time(int64_t *at, const char *name, const char *text, struct err *e)
{
	if (text != NULL && text[0] != '\0' && clock_parse(text, at, e) != 0)
		return err_prefix(e, ERR_INVALID, "%s", name);
	return 0;
}

static int
set_dead(struct run_filter *f, const char *text, struct err *e)
{
	if (text == NULL || text[0] == '\0' || strcmp(text, "false") == 0)
		return 0;
	if (strcmp(text, "true") != 0)
		return err_set(e, ERR_INVALID, "dead: 'true' or 'false', not '%.20s'", text);
	f->filter.dead = true;
	return 0;
}

int
run_filter_set(struct run_filter *f, const struct run_filter_texts *t, const char *tenant, struct err *e)
{
	int rc;

	if ((rc = set_states(f, t->state, e)) != 0 || (rc = set_label(f, t->label, e)) != 0 ||
	    (rc = set_time(&f->filter.since_real_ms, "since", t->since, e)) != 0 ||
	    (rc = set_time(&f->filter.until_real_ms, "until", t->until, e)) != 0 || (rc = set_dead(f, t->dead, e)) != 0)
		return rc;
	f->nothing = tenant != NULL && t->tenant != NULL && t->tenant[0] != '\0' && strcmp(t->tenant, tenant) != 0;
	f->filter.tenant = keep(f, tenant != NULL ? tenant : t->tenant);
	f->filter.workflow = keep(f, t->workflow);
	f->filter.vertical = keep(f, t->vertical);
	f->filter.target = keep(f, t->target);
	return 0;
}

void
run_filter_release(struct run_filter *f)
{
	while (f->n_texts > 0)
		free(f->texts[--f->n_texts]);
	f->filter = (struct ledger_filter){.limit = 0};
}

bool
run_filter_is_all(const struct run_filter_texts *t)
{
	const char *const texts[] = {t->state, t->workflow, t->vertical, t->target, t->tenant, t->label, t->since, t->until};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (texts[i] != NULL && texts[i][0] != '\0')
			return false;
	return t->dead == NULL || strcmp(t->dead, "true") != 0;
}
