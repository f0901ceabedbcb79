/* Lifecycle configurations: S3 replaces them whole, so ours is merged into what others put there. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "storage/s3_xml.h"

#define MAX_RULES 1000
#define NONCURRENT_DAYS 1 /* the least that S3 takes */

struct merge {
	const struct lifecycle_rule *rules;
	size_t n;
	struct buf foreign;  /* other ids' rules, as they stand */
	size_t n_foreign, n_same;
	struct lifecycle_view *view; /* NULL: not asked for */
	struct err *e;
	/* the rule being read */
	char id[256];
	char prefix[1025];
	int64_t days, noncurrent_days;
	bool enabled, unknown_filter;
};

static const struct lifecycle_rule *
rule_by_id(const struct merge *m, const char *id)
{
	for (size_t i = 0; i < m->n; i++)
		if (strcmp(m->rules[i].id, id) == 0)
			return &m->rules[i];
	return NULL;
}

/* Another's rule that expires objects which ours keep longer would take them away under us. */
static void
see_foreign(struct merge *m)
{
	struct lifecycle_view *v = m->view;
	bool reaches = m->n == 0;

	for (size_t i = 0; i < m->n && !reaches; i++) {
		size_t ours = strlen(m->rules[i].prefix), theirs = strlen(m->prefix);

		reaches = strncmp(m->rules[i].prefix, m->prefix, ours < theirs ? ours : theirs) == 0;
	}
	v->foreign++;
	if (!reaches || !m->enabled || m->unknown_filter || m->days <= 0 || (v->foreign_days != 0 && v->foreign_days <= m->days))
		return;
	v->foreign_days = (unsigned)m->days;
	snprintf(v->foreign_id, sizeof(v->foreign_id), "%.63s", m->id);
}

static int
rule_end(struct merge *m, const char *raw, size_t raw_len)
{
	const struct lifecycle_rule *ours = rule_by_id(m, m->id);

	if (ours == NULL && m->view != NULL)
		see_foreign(m);
	if (ours == NULL) {
		m->n_foreign++;
		if (buf_add(&m->foreign, raw, raw_len) != 0)
			return err_set(m->e, ERR_TOOBIG, "the bucket's lifecycle rules are too long");
	} else if (m->enabled && !m->unknown_filter && m->days == ours->expire_days && m->noncurrent_days == NONCURRENT_DAYS &&
	           strcmp(m->prefix, ours->prefix) == 0) {
		m->n_same++;
	}
	m->id[0] = m->prefix[0] = '\0';
	m->days = m->noncurrent_days = 0;
	m->enabled = m->unknown_filter = false;
	return 0;
}

static int
merge_each(void *arg, const char *path, const char *text, const char *raw, size_t raw_len)
{
	static const char rule[] = "LifecycleConfiguration/Rule";
	struct merge *m = arg;

	if (strncmp(path, rule, strlen(rule)) != 0)
		return 0;
	path += strlen(rule);
	if (path[0] == '\0')
		return rule_end(m, raw, raw_len);
	if (strcmp(path, "/ID") == 0)
		snprintf(m->id, sizeof(m->id), "%.*s", (int)sizeof(m->id) - 1, text);
	else if (strcmp(path, "/Filter/Prefix") == 0 || strcmp(path, "/Prefix") == 0)
		snprintf(m->prefix, sizeof(m->prefix), "%.*s", (int)sizeof(m->prefix) - 1, text);
	else if (strcmp(path, "/Status") == 0)
		m->enabled = strcmp(text, "Enabled") == 0;
	else if (strcmp(path, "/Expiration/Days") == 0)
		return num_int(text, 0, UINT32_MAX, &m->days, m->e) == 0 ? 0 : ERR_PROTO;
	else if (strcmp(path, "/Expiration/Date") == 0)
		m->days = 1; /* on a day that may be the next */
	else if (strcmp(path, "/NoncurrentVersionExpiration/NoncurrentDays") == 0)
		return num_int(text, 0, UINT32_MAX, &m->noncurrent_days, m->e) == 0 ? 0 : ERR_PROTO;
	else if (strncmp(path, "/Filter/", 8) == 0)
		m->unknown_filter = true; /* narrower than what we ask for: not the same rule */
	return 0;
}

/* A filter with a prefix is the one form that every server takes. On a versioned bucket expiry alone only hides objects, so old
 * versions go too; uploads that nobody finishes are dropped where the server knows how (MinIO does it by itself). */
static void
add_rule(struct buf *b, const struct lifecycle_rule *r)
{
	buf_adds(b, "<Rule><ID>");
	s3_xml_escape(b, r->id);
	buf_adds(b, "</ID><Filter><Prefix>");
	s3_xml_escape(b, r->prefix);
	buf_addf(b, "</Prefix></Filter><Status>Enabled</Status><Expiration><Days>%u</Days></Expiration>", r->expire_days);
	buf_addf(b, "<NoncurrentVersionExpiration><NoncurrentDays>%d</NoncurrentDays></NoncurrentVersionExpiration>"
	    "<AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
	    "</Rule>", NONCURRENT_DAYS);
}

int
s3_xml_lifecycle_merge(const char *data, size_t len, const struct lifecycle_rule *rules, size_t n, struct buf *out,
    bool *ret_changed, struct err *e)
{
	struct merge m = {.rules = rules, .n = n, .foreign = buf_make(out->max), .e = e};
	int rc = len == 0 ? 0 : s3_xml_walk(data, len, merge_each, &m, e);

	if (rc != 0)
		goto out;
	if (m.n_foreign + n > MAX_RULES) {
		rc = err_set(e, ERR_TOOBIG, "a bucket takes %d lifecycle rules, there are %zu already", MAX_RULES, m.n_foreign);
		goto out;
	}
	*ret_changed = m.n_same != n;
	if (!*ret_changed)
		goto out;
	buf_clear(out);
	buf_adds(out, "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	buf_add(out, buf_str(&m.foreign), m.foreign.len);
	for (size_t i = 0; i < n; i++)
		add_rule(out, &rules[i]);
	buf_adds(out, "</LifecycleConfiguration>");
	if (out->overflow)
		rc = err_set(e, ERR_TOOBIG, "the bucket's lifecycle rules are too long");
out:
	buf_release(&m.foreign);
	return rc;
}

int
s3_xml_lifecycle_view(const char *data, size_t len, const struct lifecycle_rule *rules, size_t n, struct lifecycle_view *ret,
    struct err *e)
{
	struct merge m = {.rules = rules, .n = n, .foreign = buf_make(S3_XML_MAX_BYTES), .view = ret, .e = e};
	int rc = len == 0 ? 0 : s3_xml_walk(data, len, merge_each, &m, e);

	ret->same = m.n_same == n;
	buf_release(&m.foreign);
	return rc;
}
