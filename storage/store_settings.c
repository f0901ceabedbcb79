#include "storage/store_settings.h"

int
store_settings_check(const struct store_settings *s, struct err *e)
{
	if ((s->dir[0] != '\0') == (s->endpoint[0] != '\0')) {
		(void)err_set(e, ERR_INVALID, "exactly one of S3_ENDPOINT and STORE_DIR must be set");
		return err_hint(e, "S3_ENDPOINT=http://minio:9000 for a cluster, STORE_DIR=/some/folder for one machine");
	}
	if (s->endpoint[0] != '\0' && (s->access_key[0] == '\0' || s->secret_key[0] == '\0'))
		return err_set(e, ERR_INVALID, "S3_ENDPOINT needs S3_ACCESS_KEY and S3_SECRET_KEY");
	return 0;
}

struct object_store *
store_settings_open(const struct store_settings *s, const struct s3_endpoints *at, struct err *e)
{
	return store_settings_open_brief(s, at, s->retry_ms, e);
}

struct object_store *
store_settings_open_brief(const struct store_settings *s, const struct s3_endpoints *at, int64_t retry_budget_ms,
    struct err *e)
{
	bool brief = retry_budget_ms != s->retry_ms; /* then the stall time follows from the budget */
	struct store_s3_config s3 = {
		.endpoints = *at, .access_key = s->access_key, .secret_key = s->secret_key, .session_token = s->session_token,
		.region = s->region, .virtual_host = s->virtual_host, .ca_cert = s->ca_cert, .skip_verify = s->skip_verify,
		.retry_budget_ms = retry_budget_ms, .stall_ms = brief ? 0 : s->stall_ms, .min_speed_bytes = s->min_speed_bytes,
		.no_md5 = !s->upload_md5, .max_connections = (unsigned)(s->fetch_parallel + s->put_parallel),
	};
	const struct store_limits limits = {(unsigned)s->fetch_parallel, (size_t)s->fetch_range_bytes, (unsigned)s->put_parallel,
	    (size_t)s->put_part_bytes};
	struct object_store *store = s->dir[0] != '\0' ? store_dir_new(s->dir, e) : store_s3_new(&s3, e);

	if (store != NULL)
		store_set_limits(store, &limits);
	return store;
}
