/* The object store on S3: settings, and the table of operations. */
#include "storage/store_s3.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define BUDGET_DEFAULT_MS 30000
#define CONNECTIONS_DEFAULT 8
#define MIN_SPEED_BYTES 1024 /* a second: slower than any line that is worth to wait for */
#define COPY_LIMIT_BYTES (5 * (int64_t)1024 * 1024 * 1024) /* what S3 copies in one request */

static void
s3_free(struct object_store *store)
{
	struct s3_store *s = (struct s3_store *)store;

	for (size_t i = 0; i < s->n_idle; i++)
		http_client_free(s->idle[i]);
	free(s->idle);
	if (s->creds.secret_key != NULL)
		mem_wipe((char *)s->creds.secret_key, strlen(s->creds.secret_key));
	free((char *)s->creds.access_key);
	free((char *)s->creds.secret_key);
	free((char *)s->creds.session_token);
	free((char *)s->creds.region);
	free((char *)s->tls.ca_cert);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static const struct store_upkeep_ops s3_upkeep = {
	.list_after = s3_list_after, .uploads = s3_uploads, .abort_upload = s3_abort_upload, .versioned = s3_versioned,
	.remove_versions = s3_remove_versions, .lifecycle_view = s3_lifecycle_view, .probe = s3_probe,
};

static const struct object_store_ops s3_ops = {
	.ensure_bucket = s3_ensure_bucket, .put = s3_put, .get = s3_get, .head = s3_head, .copy = s3_copy,
	.list = s3_list, .remove = s3_remove, .presign = s3_url, .lifecycle_merge = s3_lifecycle_merge,
	.check = s3_check, .upkeep = &s3_upkeep, .free = s3_free,
};

static bool
is_empty(const char *s)
{
	return s == NULL || s[0] == '\0';
}

/* Credentials and region go into headers: a line break in them would be somebody's injection. */
static bool
is_header_text(const char *s)
{
	for (; s != NULL && *s != '\0'; s++)
		if ((unsigned char)*s <= ' ' || (unsigned char)*s > '~')
			return false;
	return true;
}

struct object_store *
store_s3_new(const struct store_s3_config *c, struct err *e)
{
	struct s3_store *s;

	if (is_empty(c->access_key) || is_empty(c->secret_key)) {
		err_set(e, ERR_INVALID, "S3 needs an access key and a secret key");
		return NULL;
	}
	if (!is_header_text(c->access_key) || !is_header_text(c->session_token) || !is_header_text(c->region)) {
		err_set(e, ERR_INVALID, "an S3 access key, session token or region with blanks or unprintable characters");
		return NULL;
	}
	if (c->retry_budget_ms < 0 || c->retry_budget_ms > RETRY_MAX_MS || c->copy_limit_bytes < 0 ||
	    c->stall_ms < 0 || c->stall_ms > RETRY_MAX_MS || c->min_speed_bytes < 0 || c->min_speed_bytes > INT32_MAX) {
		err_set(e, ERR_INVALID, "an S3 retry budget of %lld ms, a stall of %lld ms or a speed of %lld",
		    (long long)c->retry_budget_ms, (long long)c->stall_ms, (long long)c->min_speed_bytes);
		return NULL;
	}
	s = xcalloc(1, sizeof(*s));
	s->base = (struct object_store){.ops = &s3_ops, .kind = "s3"};
	store_set_limits(&s->base, &(struct store_limits){0});
	s->endpoints = c->endpoints;
	s->creds = (struct s3_credentials){xstrdup(c->access_key), xstrdup(c->secret_key), xstrdup(c->session_token),
	    xstrdup(is_empty(c->region) ? "us-east-1" : c->region)};
	s->tls = (struct http_tls){.ca_cert = xstrdup(c->ca_cert), .skip_verify = c->skip_verify};
	s->virtual_host = c->virtual_host;
	s->copy_limit_bytes = c->copy_limit_bytes > 0 ? c->copy_limit_bytes : COPY_LIMIT_BYTES;
	s->stall_ms = c->stall_ms;
	s->min_speed_bytes = c->min_speed_bytes > 0 ? c->min_speed_bytes : MIN_SPEED_BYTES;
	s->no_md5 = c->no_md5;
	s->retry = (struct retry_policy){.max_attempts = RETRY_MAX_ATTEMPTS, .base_ms = 100, .cap_ms = 3000,
	    .budget_ms = (uint32_t)(c->retry_budget_ms > 0 ? c->retry_budget_ms : BUDGET_DEFAULT_MS)};
	s->max_idle = c->max_connections > 0 ? c->max_connections : CONNECTIONS_DEFAULT;
	s->idle = xcalloc(s->max_idle, sizeof(s->idle[0]));
	pthread_mutex_init(&s->lock, NULL);
	return &s->base;
}
