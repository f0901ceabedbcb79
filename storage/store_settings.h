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
	bool skip_verify, virtual_host;
};

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
	SETTING_ROW_BOOL("S3_VIRTUAL_HOST", program, at.virtual_host, "false", "Bucket in the host name in place of the path.")

/* Whether there is exactly one store, with its keys where it is S3. Returns 0 or ERR_INVALID with a hint. */
int store_settings_check(const struct store_settings *s, struct err *e);

/* Opens the store; the endpoints serve S3 alone. NULL with *e as store_dir_new and store_s3_new. */
struct object_store *store_settings_open(const struct store_settings *s, const struct s3_endpoints *at, struct err *e);

/* The same, but calls give up when the store has been away for retry_budget_ms: for work that is tried again anyway. */
struct object_store *store_settings_open_brief(const struct store_settings *s, const struct s3_endpoints *at,
    int64_t retry_budget_ms, struct err *e);

#endif
