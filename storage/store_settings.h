/* store_settings.h - the settings that tell a program where the object store is, the same in every program that uses it.
 *
 * A program puts struct store_settings into its own and STORE_SETTINGS into its table, as cluster/cluster_settings.h shows.
 */
#ifndef STORAGE_STORE_SETTINGS_H
#define STORAGE_STORE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/settings.h"
#include "storage/object_store.h"

struct store_settings {
	char *dir, *endpoint, *access_key, *secret_key, *session_token, *region, *ca_cert;
	char *targets, *results, *toolbox; /* buckets */
	bool skip_verify, virtual_host, upload_md5;
	int64_t retry_ms, stall_ms, min_speed_bytes;
	int64_t fetch_parallel, fetch_range_bytes, put_parallel, put_part_bytes;
};

#define STORE_ROW_NUMBER(env, type, program, at, def, min, max, text) \
	{env, NULL, type, offsetof(program, at), def, min, max, NULL, false, text}
#define STORE_ROW_INT(env, program, at, def, min, max, text) \
	STORE_ROW_NUMBER(env, SETTING_INT, program, at, def, min, max, text)
#define STORE_ROW_SIZE(env, program, at, def, min, max, text) \
	STORE_ROW_NUMBER(env, SETTING_SIZE, program, at, def, min, max, text)
#define STORE_ROW_DURATION(env, program, at, def, min, max, text) \
	STORE_ROW_NUMBER(env, SETTING_DURATION, program, at, def, min, max, text)

#define STORE_SETTINGS(program, at) \
	SETTING_ROW_FLAG("STORE_DIR", "store-dir", program, at.dir, "", "Directory that stands in for S3 (embedded use)."), \
	SETTING_ROW_FLAG("S3_ENDPOINT", "s3-endpoint", program, at.endpoint, "", "http(s)://host:port, consul://SERVICE or nomad://SERVICE."), \
	SETTING_ROW_TEXT("S3_ACCESS_KEY", program, at.access_key, "Access key of the object store."), \
	SETTING_ROW_SECRET("S3_SECRET_KEY", program, at.secret_key, "Secret key of the object store."), \
	SETTING_ROW_SECRET("S3_SESSION_TOKEN", program, at.session_token, "Session token of temporary credentials."), \
	SETTING_ROW_FLAG("S3_REGION", NULL, program, at.region, "us-east-1", "Region that requests are signed for."), \
	SETTING_ROW_FLAG("S3_BUCKET", NULL, program, at.targets, "targets", "Bucket of the targets."), \
	SETTING_ROW_FLAG("S3_RESULTS_BUCKET", NULL, program, at.results, "results", "Bucket of the results."), \
	SETTING_ROW_FLAG("S3_TOOLBOX_BUCKET", NULL, program, at.toolbox, "toolbox", "Bucket of the workflow bundles."), \
	SETTING_ROW_TEXT("S3_CA_CERT", program, at.ca_cert, "CA certificate file to trust for S3."), \
	SETTING_ROW_BOOL("S3_SKIP_VERIFY", program, at.skip_verify, "false", "Trust any TLS certificate of the object store."), \
	SETTING_ROW_BOOL("S3_VIRTUAL_HOST", program, at.virtual_host, "false", "Bucket in the host name in place of the path."), \
	SETTING_ROW_BOOL("S3_UPLOAD_MD5", program, at.upload_md5, "true", "Over https, send Content-MD5 with what is stored."), \
	STORE_ROW_DURATION("S3_RETRY_BUDGET", program, at.retry_ms, "30s", 1000, 600000, "How long a request is tried again after its first failure, or since its last progress."), \
	STORE_ROW_DURATION("S3_STALL_TIMEOUT", program, at.stall_ms, "15s", 100, 300000, "Time after which a transfer that does not reach S3_MIN_SPEED is broken off and resumed."), \
	STORE_ROW_SIZE("S3_MIN_SPEED", program, at.min_speed_bytes, "1KiB", 1, 1 << 30, "Bytes a second below which a transfer counts as stalled."), \
	STORE_ROW_INT("S3_FETCH_PARALLEL", program, at.fetch_parallel, "4", 1, STORE_PARALLEL_MAX, "Ranges of an object that are downloaded at a time; 576 KiB of memory each."), \
	STORE_ROW_SIZE("S3_FETCH_RANGE", program, at.fetch_range_bytes, "8MiB", 1 << 20, 1 << 30, "Size of a range; smaller objects are one request."), \
	STORE_ROW_INT("S3_PUT_PARALLEL", program, at.put_parallel, "3", 1, STORE_PARALLEL_MAX, "Parts of an object that are uploaded at a time; S3_PUT_PART of memory each, two at least."), \
	STORE_ROW_SIZE("S3_PUT_PART", program, at.put_part_bytes, "5MiB", 5 << 20, 1 << 30, "Size of a part; smaller objects are one request.")

/* Whether there is exactly one store, with its keys where it is S3. Returns 0 or ERR_INVALID with a hint. */
int store_settings_check(const struct store_settings *s, struct err *e);

/* Opens the store; the endpoints serve S3 alone. NULL with *e as store_dir_new and store_s3_new. */
struct object_store *store_settings_open(const struct store_settings *s, const struct s3_endpoints *at, struct err *e);

/* The same, but calls give up when the store has been away for retry_budget_ms: for work that is tried again anyway. */
struct object_store *store_settings_open_brief(const struct store_settings *s, const struct s3_endpoints *at,
    int64_t retry_budget_ms, struct err *e);

#endif
