#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "storage/s3_xml.h"

/* Writes what the walk shows: "path=text;" per element. */
static int
record(void *arg, const char *path, const char *text, const char *raw, size_t raw_len)
{
	assert_true(raw_len > 0 && raw[0] == '<' && raw[raw_len - 1] == '>');
	return buf_addf(arg, "%s=%s;", path, text);
}

static void
documents_are_walked(void **state)
{
	static const struct {
		const char *xml, *seen;
	} cases[] = {
		{"<a/>", "a=;"}, {"<a></a>", "a=;"}, {"  <a>x</a>\n", "a=x;"},
		{"<?xml version=\"1.0\"?><!-- c > --><a><b>1</b><b >2</b ></a>", "a/b=1;a/b=2;a=;"},
		{"<s:a xmlns:s='u>v'><s:b q=\"1/>\"/></s:a>", "a/b=;a=;"},
		{"<a>&lt;&amp;&gt;&quot;&apos;&#65;&#x20ac;&#x1F411;</a>", "a=<&>\"'A\xe2\x82\xac\xf0\x9f\x90\x91;"},
		{"<a>x<![CDATA[<b>&amp;]]>y</a>", "a=x<b>&amp;y;"}, {"\xef\xbb\xbf<a>x</a>", "a=x;"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf b = buf_make(1000);

		assert_int_equal(s3_xml_walk(cases[i].xml, strlen(cases[i].xml), record, &b, NULL), 0);
		assert_string_equal(buf_str(&b), cases[i].seen);
		buf_release(&b);
	}
}

static void
broken_documents_are_refused(void **state)
{
	static const char *const bad[] = {
		"", " ", "x", "<", "<a", "<a>", "<a b", "<a b='", "</a>", "<a></b>", "<a><b></a></b>", "<a/><b/>", "<a/>x", "&lt;<a/>",
		"<a>&nbsp;</a>", "<a>&#0;</a>", "<a>&#xd800;</a>", "<a>&#x110000;</a>", "<a>&#;</a>", "<a>&#12a;</a>", "<a>&</a>",
		"<>", "< a/>", "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", "<a><![CDATA[x</a>", "<a><!-- x</a>", "<?xml",
		"<a></a", "<a>&#99999999999;</a>", "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a>",
	};
	char *big = xmalloc(20000);
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct buf b = buf_make(1000);

		assert_int_equal(s3_xml_walk(bad[i], strlen(bad[i]), record, &b, &e), ERR_PROTO);
		buf_release(&b);
	}
	memset(big, 'x', 20000);
	memcpy(big, "<a>", 3);
	assert_int_equal(s3_xml_walk(big, 20000, record, NULL, &e), ERR_PROTO);
	memcpy(big, "<aaa", 4);
	memset(big + 4, 'a', 19996);
	assert_int_equal(s3_xml_walk(big, 20000, record, NULL, &e), ERR_PROTO);
	assert_int_equal(s3_xml_walk("<a>\0</a>", 8, record, NULL, &e), ERR_PROTO);
	free(big);
}

static void
errors_are_told_from_anything_else(void **state)
{
	static const char yes[] = " \n<?xml version=\"1.0\"?>\n<Error><Code>SlowDown</Code><Message>a &amp; b</Message></Error>";
	static const char *const no[] = {"", "<html><body>503", "<Result><Code>x</Code></Result>", "<Error><Code>x</Code>"};
	struct s3_error error;

	(void)state;
	assert_true(s3_xml_error(yes, strlen(yes), &error));
	assert_string_equal(error.code, "SlowDown");
	assert_string_equal(error.message, "a & b");
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		assert_false(s3_xml_error(no[i], strlen(no[i]), &error));
}

static int
list_record(void *arg, const char *key, const struct object_info *info)
{
	return buf_addf(arg, "%s|%lld|%lld|%s;", key, (long long)info->size_bytes, (long long)info->modified_real_ms, info->etag);
}

static int
list(const char *xml, struct buf *seen, struct buf *token)
{
	return s3_xml_list(xml, strlen(xml), list_record, seen, token, NULL);
}

#define ENCODED "<EncodingType>url</EncodingType>"

static void
lists_are_read(void **state)
{
	struct buf seen = buf_make(1000), token = buf_make(1000);

	(void)state;
	assert_int_equal(list("<ListBucketResult><Prefix>p</Prefix><IsTruncated>true</IsTruncated>"
	    "<Contents><Key>a%2Fb+c%20%C3%A9</Key><LastModified>2026-11-21T11:44:07.123Z</LastModified><ETag>&#34;e&#34;</ETag><Size>7"
	    "</Size><Owner><ID>o</ID></Owner></Contents><Contents><Key>marker/</Key></Contents><Contents><Key>z</Key></Contents>"
	    "<NextContinuationToken>a+b/=</NextContinuationToken><EncodingType>url</EncodingType></ListBucketResult>", &seen, &token), 0);
	assert_string_equal(buf_str(&seen), "a/b c \xc3\xa9|7|1795261447123|\"e\";z|0|0|;");
	assert_string_equal(buf_str(&token), "a+b/=");
	assert_int_equal(list("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>", &seen, &token), 0);
	assert_int_equal(token.len, 0);
	assert_int_equal(list("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", &seen, &token), ERR_PROTO);
	assert_int_equal(list("<ListBucketResult>" ENCODED "<Contents><Key>%zz</Key></Contents></ListBucketResult>", &seen, &token),
	    ERR_PROTO);
	assert_int_equal(list("<ListBucketResult>" ENCODED "<Contents><Key>a%0</Key></Contents></ListBucketResult>", &seen, &token),
	    ERR_PROTO);
	assert_int_equal(list("<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>", &seen, &token),
	    ERR_PROTO);
	/* A server that was asked to encode and did not. */
	buf_clear(&seen);
	assert_int_equal(list("<ListBucketResult><Contents><Key>a%2Fb+c</Key></Contents><EncodingType></EncodingType></ListBucketResult>",
	    &seen, &token), 0);
	assert_string_equal(buf_str(&seen), "a%2Fb+c|0|0|;");
	buf_release(&seen);
	buf_release(&token);
}

#define FOREIGN "<Rule><ID>foreign</ID><Filter><And><Prefix>x</Prefix><Tag><Key>k</Key><Value>&amp;</Value></Tag></And></Filter>" \
	"<Status>Enabled</Status><Transition><Days>1</Days></Transition></Rule>"
#define OLD_VERSIONS "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>"
#define OURS(days) "<Rule><ID>ours</ID><Filter><Prefix>t/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>" days \
	"</Days></Expiration>" OLD_VERSIONS "</Rule>"

static void
lifecycle_rules_are_merged_by_id(void **state)
{
	static const struct lifecycle_rule ours = {"ours", "t/", 7};
	static const struct {
		const char *current;
		bool changed, keeps_foreign;
	} cases[] = {
		{"", true, false},
		{"<LifecycleConfiguration>" OURS("7") "</LifecycleConfiguration>", false, false},
		{"<LifecycleConfiguration>" OURS("8") "</LifecycleConfiguration>", true, false},
		{"<LifecycleConfiguration xmlns=\"u\">" FOREIGN OURS("8") "</LifecycleConfiguration>", true, true},
		{"<LifecycleConfiguration>" FOREIGN "</LifecycleConfiguration>", true, true},
		{"<LifecycleConfiguration><Rule><ID>ours</ID><Filter><Prefix>t/</Prefix></Filter><Status>Disabled</Status><Expiration><Days>7"
		 "</Days></Expiration></Rule></LifecycleConfiguration>", true, false},
		{"<LifecycleConfiguration><Rule><ID>ours</ID><Filter><And><Prefix>t/</Prefix></And></Filter><Status>Enabled</Status>"
		 "<Expiration><Days>7</Days></Expiration></Rule></LifecycleConfiguration>", true, false},
		/* Without it a versioned bucket keeps for ever what the rule only hides. */
		{"<LifecycleConfiguration><Rule><ID>ours</ID><Filter><Prefix>t/</Prefix></Filter><Status>Enabled</Status>"
		 "<Expiration><Days>7</Days></Expiration></Rule></LifecycleConfiguration>", true, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf out = buf_make(100000), again = buf_make(100000);
		bool changed = !cases[i].changed;

		assert_int_equal(s3_xml_lifecycle_merge(cases[i].current, strlen(cases[i].current), &ours, 1, &out, &changed, NULL), 0);
		assert_int_equal(changed, cases[i].changed);
		assert_int_equal(strstr(buf_str(&out), FOREIGN) != NULL, cases[i].keeps_foreign);
		if (changed) {
			/* What was written is what is wanted: nothing more to do. */
			assert_int_equal(s3_xml_lifecycle_merge(out.data, out.len, &ours, 1, &again, &changed, NULL), 0);
			assert_false(changed);
		}
		buf_release(&out);
		buf_release(&again);
	}
}

static void
others_rules_that_reach_our_objects_are_seen(void **state)
{
	static const struct lifecycle_rule ours = {"ours", "t/", 7};
#define RULE(id, prefix, status, days) "<Rule><ID>" id "</ID><Filter><Prefix>" prefix "</Prefix></Filter><Status>" status \
	"</Status><Expiration><Days>" days "</Days></Expiration></Rule>"
	static const struct {
		const char *rules;
		bool same;
		size_t foreign;
		unsigned days;
		const char *id;
	} cases[] = {
		{"", false, 0, 0, ""},
		{OURS("7"), true, 0, 0, ""},
		{OURS("7") RULE("a", "", "Enabled", "3") RULE("b", "t/x", "Enabled", "2"), true, 2, 2, "b"},
		{OURS("8") RULE("a", "u/", "Enabled", "3") RULE("b", "t/", "Disabled", "2"), false, 2, 0, ""},
		{FOREIGN OURS("7"), true, 1, 0, ""},
		{"<Rule><ID>d</ID><Prefix/><Status>Enabled</Status><Expiration><Date>2027-01-01T00:00:00Z</Date></Expiration></Rule>",
		    false, 1, 1, "d"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct lifecycle_view v = {.same = !cases[i].same};
		struct buf text = buf_make(10000);

		buf_addf(&text, "<LifecycleConfiguration>%s</LifecycleConfiguration>", cases[i].rules);
		assert_int_equal(s3_xml_lifecycle_view(text.data, text.len, &ours, 1, &v, NULL), 0);
		assert_int_equal(v.same, cases[i].same);
		assert_int_equal(v.foreign, cases[i].foreign);
		assert_int_equal(v.foreign_days, cases[i].days);
		assert_string_equal(v.foreign_id, cases[i].id);
		buf_release(&text);
	}
}

static void
lifecycle_limits_hold(void **state)
{
	static const struct lifecycle_rule ours = {"ours", "a<b>&\"c", 7};
	struct buf many = buf_make(1000000), out = buf_make(1000000), small = buf_make(50);
	bool changed;

	(void)state;
	buf_adds(&many, "<LifecycleConfiguration>");
	for (int i = 0; i < 1000; i++)
		buf_addf(&many, "<Rule><ID>r%d</ID></Rule>", i);
	buf_adds(&many, "</LifecycleConfiguration>");
	assert_int_equal(s3_xml_lifecycle_merge(many.data, many.len, &ours, 1, &out, &changed, NULL), ERR_TOOBIG);
	assert_int_equal(s3_xml_lifecycle_merge("<x", 2, &ours, 1, &out, &changed, NULL), ERR_PROTO);
	assert_int_equal(s3_xml_lifecycle_merge("", 0, &ours, 1, &small, &changed, NULL), ERR_TOOBIG);
	assert_int_equal(s3_xml_lifecycle_merge("", 0, &ours, 1, &out, &changed, NULL), 0);
	assert_non_null(strstr(out.data, "<Prefix>a&lt;b&gt;&amp;&quot;c</Prefix>"));
	buf_release(&many);
	buf_release(&out);
	buf_release(&small);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(documents_are_walked), cmocka_unit_test(broken_documents_are_refused),
		cmocka_unit_test(errors_are_told_from_anything_else), cmocka_unit_test(lists_are_read),
		cmocka_unit_test(lifecycle_rules_are_merged_by_id), cmocka_unit_test(lifecycle_limits_hold),
		cmocka_unit_test(others_rules_that_reach_our_objects_are_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
