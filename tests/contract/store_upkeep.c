/* What keeps a store in order, held against a directory, a real MinIO and a real versitygw.
 * DROVER_STORE=dir, =s3 or =versitygw runs it on one of them only. */
#include "storage/store_s3.h"
#include "storage/store_upkeep.h"
#include "store_rig.h"

#define HOUR_MS (3600 * INT64_C(1000))

static bool
is_minio(void)
{
	return is_s3() && server.program == &minio_program;
}

static void
put(const char *key, const char *text)
{
	assert_int_equal(store_put_bytes(store, BUCKET, key, text, strlen(text), NULL, NULL, NULL), 0);
}

/* --- lists --- */

static int
join_keys(void *arg, const char *key, const struct object_info *info)
{
	(void)info;
	buf_addf(arg, "%s ", key);
	return 0;
}

static int
one_key(void *arg, const char *key, const struct object_info *info)
{
	join_keys(arg, key, info);
	return 7;
}

static void
lists_go_on_behind_a_key(void **state)
{
	static const char *const keys[] = {"list/a", "list/b/c", "list/b/d", "list/e"};
	static const struct {
		const char *after, *want;
	} cases[] = {{"", "list/a list/b/c list/b/d list/e "}, {"list/a", "list/b/c list/b/d list/e "},
		{"list/b/c", "list/b/d list/e "}, {"list/b/cc", "list/b/d list/e "}, {"list/e", ""}, {"zzz", ""},
		{"aaa", "list/a list/b/c list/b/d list/e "}};
	struct buf got = buf_make(1000);

	(void)state;
	for (size_t i = 0; i < 4; i++)
		put(keys[i], "x");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buf_clear(&got);
		assert_int_equal(store_list_after(store, BUCKET, "list/", cases[i].after, join_keys, &got, NULL), 0);
		assert_string_equal(buf_str(&got), cases[i].want);
	}
	/* From one to the next, each time anew: what a sweep in pieces does. */
	buf_clear(&got);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(store_list_after(store, BUCKET, "list/", i == 0 ? "" : keys[i - 1], one_key, &got, NULL), 7);
	assert_string_equal(buf_str(&got), cases[0].want);
	buf_release(&got);
}

/* --- uploads --- */

static struct store_upload
begin_upload(const char *key)
{
	struct s3_call c = s3_call_make("POST", BUCKET, key, NULL);
	struct store_upload u = {.begun_real_ms = 0};
	char id[S3_UPLOAD_ID_MAX];

	snprintf(u.key, sizeof(u.key), "%s", key);
	assert_int_equal(s3_upload_create((struct s3_store *)store, &c, id, NULL), 0);
	memcpy(u.id, id, sizeof(u.id));
	s3_call_release(&c);
	return u;
}

static int
send_part(const struct store_upload *u)
{
	struct s3_call c = s3_call_make("PUT", BUCKET, u->key, NULL);
	int rc;

	s3_call_query(&c, "partNumber", "1");
	s3_call_query(&c, "uploadId", u->id);
	c.body = "part";
	c.body_len = 4;
	rc = s3_perform((struct s3_store *)store, &c, NULL);
	s3_call_release(&c);
	return rc;
}

struct uploads {
	const struct store_upload *want;
	bool seen;
	int n;
};

static int
see_upload(void *arg, const struct store_upload *u)
{
	struct uploads *s = arg;

	s->n++;
	if (strcmp(u->id, s->want->id) == 0 && strcmp(u->key, s->want->key) == 0) {
		s->seen = true;
		assert_true(u->begun_real_ms > clock_real_ms() - 60000 && u->begun_real_ms < clock_real_ms() + 60000);
	}
	return 0;
}

static void
uploads_that_stand_still_are_aborted_others_are_not(void **state)
{
	struct store_upload u = {.key = "up/none"}, empty;
	struct uploads seen = {&u, false, 0};

	(void)state;
	if (!is_s3()) {
		assert_int_equal(store_uploads(store, BUCKET, see_upload, &seen, NULL), 0);
		assert_int_equal(seen.n, 0);
		assert_int_equal(store_abort_upload(store, BUCKET, &u, clock_real_ms(), NULL), 0);
		return;
	}
	u = begin_upload("up/with-a-part");
	empty = begin_upload("up/without");
	assert_int_equal(send_part(&u), 0);
	assert_int_equal(store_uploads(store, BUCKET, see_upload, &seen, NULL), 0);
	assert_true(seen.seen);
	assert_int_equal(seen.n, 2);
	assert_int_equal(store_abort_upload(store, BUCKET, &u, clock_real_ms() - HOUR_MS, NULL), ERR_CONFLICT);
	assert_int_equal(send_part(&u), 0);
	assert_int_equal(store_abort_upload(store, BUCKET, &u, clock_real_ms() + HOUR_MS, NULL), 0);
	assert_int_not_equal(send_part(&u), 0);
	assert_int_equal(store_abort_upload(store, BUCKET, &u, clock_real_ms() + HOUR_MS, NULL), 0);
	assert_int_equal(store_abort_upload(store, BUCKET, &empty, clock_real_ms() - HOUR_MS, NULL), 0);
	seen = (struct uploads){&u, false, 0};
	assert_int_equal(store_uploads(store, BUCKET, see_upload, &seen, NULL), 0);
	assert_int_equal(seen.n, 0);
}

/* --- versions --- */

static int
keep_versions(const char *bucket)
{
	static const char on[] = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
	struct s3_call c = s3_call_make("PUT", bucket, NULL, NULL);
	int rc;

	s3_call_query(&c, "versioning", "");
	c.body = on;
	c.body_len = sizeof(on) - 1;
	rc = s3_perform((struct s3_store *)store, &c, NULL);
	s3_call_release(&c);
	return rc;
}

static int
count_versions(const char *bucket)
{
	struct s3_call c = s3_call_make("GET", bucket, NULL, NULL);
	int n = 0;

	s3_call_query(&c, "versions", "");
	assert_int_equal(s3_perform((struct s3_store *)store, &c, NULL), 0);
	for (const char *p = buf_str(&c.out); (p = strstr(p, "<VersionId>")) != NULL; p++)
		n++;
	s3_call_release(&c);
	return n;
}

static void
old_versions_go_with_their_object(void **state)
{
	const char *bucket = "with-versions";
	bool versioned = true;
	struct err e;

	(void)state;
	assert_int_equal(store_versioned(store, BUCKET, &versioned, &e), 0);
	assert_false(versioned);
	put("one", "1");
	assert_int_equal(store_remove_versions(store, BUCKET, "one", &e), 0);
	assert_int_equal(store_remove_versions(store, BUCKET, "one", &e), 0);
	if (!is_minio())
		return; /* the stories have a versitygw that keeps versions */
	assert_int_equal(store_ensure_bucket(store, bucket, &e), 0);
	assert_int_equal(keep_versions(bucket), 0);
	assert_int_equal(store_versioned(store, bucket, &versioned, &e), 0);
	assert_true(versioned);
	for (int i = 0; i < 3; i++)
		assert_int_equal(store_put_bytes(store, bucket, "k", "again", 5, NULL, NULL, &e), 0);
	assert_int_equal(store_remove(store, bucket, "k", &e), 0);
	assert_int_equal(store_put_bytes(store, bucket, "k-longer", "x", 1, NULL, NULL, &e), 0);
	assert_int_equal(count_versions(bucket), 5);
	assert_int_equal(store_remove_versions(store, bucket, "k", &e), 0);
	assert_int_equal(count_versions(bucket), 1);
}

/* --- rules --- */

static void
rules_are_seen_as_they_are(void **state)
{
	const struct lifecycle_rule ours = {"drover-x", "", 8}, longer = {"drover-x", "", 9}, theirs = {"theirs", "logs/", 3};
	struct lifecycle_view view;

	(void)state;
	if (!is_minio()) {
		assert_int_equal(store_lifecycle_view(store, BUCKET, &ours, 1, &view, NULL), ERR_NOTFOUND);
		return;
	}
	assert_int_equal(store_lifecycle_view(store, BUCKET, &ours, 1, &view, NULL), 0);
	assert_false(view.same);
	assert_int_equal(store_lifecycle_merge(store, BUCKET, &ours, 1, NULL), 0);
	assert_int_equal(store_lifecycle_view(store, BUCKET, &ours, 1, &view, NULL), 0);
	assert_true(view.same && view.foreign == 0 && view.foreign_days == 0);
	assert_int_equal(store_lifecycle_merge(store, BUCKET, &theirs, 1, NULL), 0);
	assert_int_equal(store_lifecycle_view(store, BUCKET, &longer, 1, &view, NULL), 0);
	assert_false(view.same);
	assert_int_equal(view.foreign, 1);
	assert_int_equal(view.foreign_days, 3);
	assert_string_equal(view.foreign_id, "theirs");
}

/* --- probing --- */

static int
no_key(void *arg, const char *key, const struct object_info *info)
{
	(void)arg, (void)info;
	print_error("left: %s\n", key);
	return -1;
}

static void
servers_are_probed_and_nothing_is_left(void **state)
{
	struct store_probe p;

	(void)state;
	assert_int_equal(store_probe(store, BUCKET, &p, NULL), 0);
	for (size_t i = 0; i < STORE_RIGHTS; i++)
		assert_int_equal(p.rights[i].rc, 0);
	assert_true(p.conditional_put);
	assert_false(p.versioned);
	assert_int_equal(p.lifecycle, is_minio());
	assert_int_equal(p.multipart_copy, true);
	assert_int_equal(p.clock_known, is_s3());
	assert_true(p.clock_ahead_ms > -5000 && p.clock_ahead_ms < 5000);
	assert_int_equal(p.free_bytes > 0, !is_s3());
	if (is_minio())
		assert_true(p.checks_digests && strcmp(p.server, "MinIO") == 0);
	assert_int_equal(store_list(store, BUCKET, "drover/", no_key, NULL, NULL), 0);
	assert_int_equal(store_probe(store, "no-such-bucket", &p, NULL), 0);
	assert_int_equal(p.rights[STORE_MAY_WRITE].rc, ERR_NOTFOUND);
	assert_true(p.rights[STORE_MAY_WRITE].why[0] != '\0');
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(lists_go_on_behind_a_key), cmocka_unit_test(uploads_that_stand_still_are_aborted_others_are_not),
	cmocka_unit_test(old_versions_go_with_their_object), cmocka_unit_test(rules_are_seen_as_they_are),
	cmocka_unit_test(servers_are_probed_and_nothing_is_left),
};

int
main(void)
{
	return run_suite(&(const struct suite){.name = "upkeep", .both = tests, .n_both = sizeof(tests) / sizeof(tests[0])});
}
