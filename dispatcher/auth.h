/* auth.h - who is calling: API tokens, kept as SHA-256 in a file that `drover init` writes.
 *
 * The file is a JSON array of {"name","sha256","scopes":[…],"tenant","created_at"}, readable by its owner only. It is read
 * again when it has changed. Loop thread.
 */
#ifndef DISPATCHER_AUTH_H
#define DISPATCHER_AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "proto/run.h"

#define AUTH_TOKEN_MAX 256 /* characters of a token */

enum scope { /* bits; a route needs one of them */
	SCOPE_READ = 1 << 0,
	SCOPE_SUBMIT = 1 << 1,
	SCOPE_MANAGE = 1 << 2,
	SCOPE_WORKER = 1 << 3,
	SCOPE_ALL = SCOPE_READ | SCOPE_SUBMIT | SCOPE_MANAGE | SCOPE_WORKER, /* "admin" */
};

struct identity {
	char name[64];
	char tenant[TENANT_NAME_MAX];
	unsigned scopes;
};

struct auth;

/* Reads the file; a file that is not there means no tokens. ERR_INVALID, ERR_DENIED (others may read it), ERR_IO. */
int auth_new(const char *path, struct auth **ret, struct err *e);
void auth_free(struct auth *a);

/* Reads the file again if it has changed. On failure the old tokens stay. Returns 0 or as auth_new. */
int auth_refresh(struct auth *a, struct err *e);

/* Number of tokens; 0: every caller is admin of tenant "default". */
size_t auth_count(const struct auth *a);

/* Who presents these header values (each may be NULL): "Bearer TOKEN" or "Basic base64(anything:TOKEN)" of Authorization, or
 * the bare token of X-Drover-Token. ERR_DENIED when nobody is known by it. */
int auth_identify(const struct auth *a, const char *authorization, const char *x_token, struct identity *ret, struct err *e);

#endif
