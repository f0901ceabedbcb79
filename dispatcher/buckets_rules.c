/* The buckets' expiry rules, and whose the buckets are. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/num.h"
#include "dispatcher/buckets_priv.h"
#include "dispatcher/meters.h"
#include "dispatcher/retention.h"
#include "storage/lifecycle.h"

#define CLAIM_PREFIX BUCKET_OWN_PREFIX "ledger/"
#define CLAIM_FRESH_MS LIFECYCLE_DAY_MS       /* then it is written anew, before any rule takes it away */
#define CLAIM_OTHERS_MS (8 * LIFECYCLE_DAY_MS) /* a ledger that was not heard of for longer is taken for gone */

void
buckets_set_alarm(struct buckets *b, enum bucket_role role, const char *text)
{
	bool changed;

	pthread_mutex_lock(&b->lock);
	changed = strncmp(b->alarm[role], text != NULL ? text : "", sizeof(b->alarm[role]) - 1) != 0;
	snprintf(b->alarm[role], sizeof(b->alarm[role]), "%s", text != NULL ? text : "");
	pthread_mutex_unlock(&b->lock);
	metrics_set(METER_LIFECYCLE_OK, bucket_role_word(role), text == NULL);
	if (changed && text != NULL)
		log_error(buckets_name(b, role), "%s", text);
	else if (changed)
		log_info(buckets_name(b, role), "the lifecycle rules are as they shall be again");
}

void
buckets_alarm(struct buckets *b, char *out, size_t len)
{
	size_t at = 0;

	out[0] = '\0';
	pthread_mutex_lock(&b->lock);
	for (enum bucket_role i = 0; i < BUCKETS && at < len; i++)
		if (b->alarm[i][0] != '\0')
			at += (size_t)snprintf(out + at, len - at, "%s%s: %s", at > 0 ? "; " : "", bucket_role_word(i), b->alarm[i]);
	pthread_mutex_unlock(&b->lock);
}

/* --- rules --- */

bool
buckets_rule(struct buckets *b, enum bucket_role role, struct lifecycle_rule *ret, struct err *e)
{
	const struct config *c = b->d->config;
	int64_t targets_ms, results_ms;

	if (role == BUCKET_TOOLBOX || ledger_promises(b->d->ledger, &targets_ms, &results_ms, e) != 0)
		return false;
	targets_ms = targets_ms > c->target_retention_ms ? targets_ms : c->target_retention_ms;
	results_ms = results_ms > c->result_retention_ms ? results_ms : c->result_retention_ms;
	if (role == BUCKET_TARGETS)
		*ret = (struct lifecycle_rule){"drover-targets", "", lifecycle_rule_days(targets_ms)};
	else
		*ret = (struct lifecycle_rule){"drover-results", "", lifecycle_rule_days(results_ms)};
	return true;
}

/* Whether another's rule takes away what ours still keeps. */
static int
look_at_others(struct buckets *b, enum bucket_role role, const struct lifecycle_rule *rule, struct err *e)
{
	struct lifecycle_view view;
	char text[200];
	int rc = store_lifecycle_view(b->d->brief, buckets_name(b, role), rule, 1, &view, e);

	if (rc != 0)
		return rc;
	if (!view.same) {
		buckets_set_alarm(b, role, "the rule that was written does not read back as it was written");
	} else if (view.foreign_days > 0 && view.foreign_days < rule->expire_days) {
		snprintf(text, sizeof(text), "rule '%.60s' of somebody else removes objects after %u days, which are kept for %u",
		    view.foreign_id, view.foreign_days, rule->expire_days);
		buckets_set_alarm(b, role, text);
	} else {
		buckets_set_alarm(b, role, NULL);
	}
	return 0;
}

static int
set_rule(struct buckets *b, enum bucket_role role, struct err *e)
{
	struct lifecycle_rule rule;
	char text[200];
	int rc;

	if (!buckets_rule(b, role, &rule, e))
		return role == BUCKET_TOOLBOX ? 0 : e->code;
	rc = store_lifecycle_merge(b->d->brief, buckets_name(b, role), &rule, 1, e);
	if (rc == 0)
		rc = look_at_others(b, role, &rule, e);
	if (rc == ERR_NOTFOUND)
		buckets_set_alarm(b, role, NULL); /* it has none: the janitor is all there is, and enough */
	else if (rc != 0 && rc != ERR_RETRY) {
		snprintf(text, sizeof(text), "the rule cannot be set: %.150s", e->msg);
		buckets_set_alarm(b, role, text);
	}
	return rc == ERR_RETRY ? rc : 0;
}

static void
look_at_versions(struct buckets *b, enum bucket_role role)
{
	struct err ignored;
	bool versioned;

	if (store_versioned(b->d->brief, buckets_name(b, role), &versioned, &ignored) != 0)
		return;
	pthread_mutex_lock(&b->lock);
	b->versioned[role] = versioned;
	pthread_mutex_unlock(&b->lock);
}

int
buckets_set_rules(struct buckets *b, struct err *e)
{
	int rc = 0;

	for (enum bucket_role i = 0; rc == 0 && i < BUCKETS; i++) {
		look_at_versions(b, i);
		rc = set_rule(b, i, e);
	}
	return rc;
}

/* --- whose the buckets are --- */

struct claims {
	const char *own; /* uuid */
	int64_t now_real_ms;
	struct bucket_claim *ret;
};

static int
claim_each(void *arg, const char *key, const struct object_info *info)
{
	struct claims *c = arg;
	const char *uuid = key + strlen(CLAIM_PREFIX);

	if (strcmp(uuid, c->own) != 0 && strlen(uuid) < sizeof(c->ret->other) && info->modified_real_ms > c->ret->other_real_ms &&
	    c->now_real_ms - info->modified_real_ms < CLAIM_OTHERS_MS) {
		snprintf(c->ret->other, sizeof(c->ret->other), "%s", uuid);
		c->ret->other_real_ms = info->modified_real_ms;
	}
	return 0;
}

int
buckets_claim(struct buckets *b, enum bucket_role role, struct bucket_claim *ret, struct err *e)
{
	struct claims claims = {b->d->ledger->uuid, clock_real_ms(), ret};
	const char *bucket = buckets_name(b, role);
	struct buf text = buf_make(64);
	struct object_info info = {.size_bytes = 0};
	char key[80], since[CLOCK_TEXT_LEN];
	int rc;

	*ret = (struct bucket_claim){0};
	snprintf(key, sizeof(key), CLAIM_PREFIX "%s", b->d->ledger->uuid);
	rc = store_head(b->d->brief, bucket, key, &info, e);
	if (rc == 0)
		rc = store_get_bytes(b->d->brief, bucket, key, &text, e);
	if (rc == 0 && clock_parse(buf_str(&text), &ret->since_real_ms, NULL) != 0)
		rc = ERR_NOTFOUND; /* not what we write */
	if (rc == ERR_NOTFOUND)
		ret->since_real_ms = claims.now_real_ms;
	if (rc == ERR_NOTFOUND || (rc == 0 && claims.now_real_ms - info.modified_real_ms > CLAIM_FRESH_MS)) {
		clock_text(ret->since_real_ms, since);
		rc = store_put_bytes(b->d->brief, bucket, key, since, strlen(since), NULL, NULL, e);
	}
	if (rc == 0)
		rc = store_list(b->d->brief, bucket, CLAIM_PREFIX, claim_each, &claims, e);
	buf_release(&text);
	return rc;
}

bool
buckets_claim_holds(const struct buckets *b, const struct bucket_claim *c, int64_t now_real_ms)
{
	return c->other[0] == '\0' && lifecycle_orphaned(now_real_ms, c->since_real_ms, b->d->config->orphan_grace_ms);
}
