#include "dispatcher/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/mem.h"

#define FILE_MAX (1024 * 1024)
#define TOKENS_MAX 10000

struct token {
	uint8_t hash[SHA256_LEN];
	struct identity who;
};

struct auth {
	char *path;
	struct stat seen; /* of the file that the tokens came from; st_ino 0: none */
	struct token *tokens;
	size_t n;
};

static const struct {
	const char *word;
	unsigned bits;
} scope_words[] = {{"read", SCOPE_READ}, {"submit", SCOPE_SUBMIT}, {"manage", SCOPE_MANAGE}, {"worker", SCOPE_WORKER},
	{"admin", SCOPE_ALL}};

static int
parse_scopes(const json_t *list, unsigned *ret, struct err *e)
{
	size_t i, k;
	json_t *word;

	*ret = 0;
	json_array_foreach(list, i, word)
	{
		for (k = 0; k < sizeof(scope_words) / sizeof(scope_words[0]); k++)
			if (json_is_string(word) && strcmp(json_string_value(word), scope_words[k].word) == 0)
				break;
		if (k == sizeof(scope_words) / sizeof(scope_words[0]))
			return err_set(e, ERR_INVALID, "a scope is not one of read, submit, manage, worker, admin");
		*ret |= scope_words[k].bits;
	}
	return *ret != 0 ? 0 : err_set(e, ERR_INVALID, "a token without scopes");
}

static int
parse_token(json_t *o, struct token *ret, struct err *e)
{
	const char *name = "", *hash = "", *tenant = "default";
	json_t *scopes = NULL;
	json_error_t je;

	if (json_unpack_ex(o, &je, 0, "{s:s, s:s, s:o, s?s, s?o !}", "name", &name, "sha256", &hash, "scopes", &scopes, "tenant",
	        &tenant, "created_at", &(json_t *){NULL}) != 0)
		return err_set(e, ERR_INVALID, "not a token: %s", je.text);
	if (!hex_decode(hash, SHA256_LEN, ret->hash))
		return err_set(e, ERR_INVALID, "sha256 of token '%.40s' is not 64 hex digits", name);
	if (strlen(name) >= sizeof(ret->who.name) || tenant[0] == '\0' || strlen(tenant) >= sizeof(ret->who.tenant))
		return err_set(e, ERR_INVALID, "name or tenant of token '%.40s' is empty or too long", name);
	snprintf(ret->who.name, sizeof(ret->who.name), "%s", name);
	snprintf(ret->who.tenant, sizeof(ret->who.tenant), "%s", tenant);
	return parse_scopes(scopes, &ret->who.scopes, e);
}

static int
parse_file(const struct buf *b, struct token **ret, size_t *ret_n, struct err *e)
{
	json_error_t je;
	json_t *list = json_loadb(buf_str(b), b->len, JSON_REJECT_DUPLICATES, &je), *o;
	struct token *tokens = NULL;
	size_t i, n = 0;
	int rc = 0;

	if (list == NULL || !json_is_array(list) || json_array_size(list) > TOKENS_MAX) {
		rc = err_set(e, ERR_INVALID, "line %d: %s", list == NULL ? je.line : 1,
		    list == NULL ? je.text : "expected an array of at most 10000 tokens");
		goto out;
	}
	tokens = xcalloc(json_array_size(list), sizeof(*tokens));
	json_array_foreach(list, i, o)
	{
		if ((rc = parse_token(o, &tokens[n++], e)) != 0)
			goto out;
	}
	*ret = tokens;
	*ret_n = n;
	tokens = NULL;
out:
	free(tokens);
	json_decref(list);
	return rc;
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
	    a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

int
auth_refresh(struct auth *a, struct err *e)
{
	struct buf b = buf_make(FILE_MAX);
	struct stat st = {0};
	struct token *tokens = NULL;
	size_t n = 0;
	int rc = 0;

	if (stat(a->path, &st) != 0) {
		if (errno == ENOENT && a->n == 0)
			goto out;
		/* Tokens that vanish must not open the door: those known stay until the program starts anew. */
		rc = err_set(e, ERR_IO, "%s: %s", a->path, strerror(errno));
		goto out;
	}
	if (same_file(&st, &a->seen))
		goto out;
	if ((st.st_mode & 077) != 0) {
		rc = err_set(e, ERR_DENIED, "%s can be read by others", a->path);
		err_hint(e, "chmod 600 %s", a->path);
		goto out;
	}
	if ((rc = file_read(AT_FDCWD, a->path, &b, e)) != 0 || (rc = parse_file(&b, &tokens, &n, e)) != 0) {
		err_prefix(e, rc, "%s", a->path);
		goto out;
	}
	if (n == 0 && a->n > 0) { /* nor must a list that was emptied */
		free(tokens);
		rc = err_set(e, ERR_INVALID, "%s holds no tokens any more", a->path);
		goto out;
	}
	free(a->tokens);
	a->tokens = tokens;
	a->n = n;
	a->seen = st;
out:
	buf_release(&b);
	return rc;
}

int
auth_new(const char *path, struct auth **ret, struct err *e)
{
	struct auth *a = xcalloc(1, sizeof(*a));
	int rc;

	a->path = xstrdup(path);
	if ((rc = auth_refresh(a, e)) == 0)
		*ret = a;
	else
		auth_free(a);
	return rc;
}

void
auth_free(struct auth *a)
{
	if (a == NULL)
		return;
	free(a->tokens);
	free(a->path);
	free(a);
}

size_t
auth_count(const struct auth *a)
{
	return a->n;
}

/* The token inside the headers, or NULL; scratch takes a decoded Basic password. */
static const char *
presented(const char *authorization, const char *x_token, char scratch[AUTH_TOKEN_MAX * 2])
{
	char *colon;
	long len;

	if (authorization == NULL)
		return x_token;
	if (strncasecmp(authorization, "Bearer ", 7) == 0)
		return authorization + 7;
	if (strncasecmp(authorization, "Basic ", 6) != 0 || strlen(authorization + 6) >= AUTH_TOKEN_MAX * 2)
		return x_token;
	if ((len = base64_decode(authorization + 6, (uint8_t *)scratch)) < 0)
		return NULL;
	scratch[len] = '\0';
	colon = strchr(scratch, ':');
	return colon == NULL ? NULL : colon + 1;
}

int
auth_identify(const struct auth *a, const char *authorization, const char *x_token, struct identity *ret, struct err *e)
{
	char scratch[AUTH_TOKEN_MAX * 2];
	const char *token = presented(authorization, x_token, scratch);
	const struct token *found = NULL;
	uint8_t hash[SHA256_LEN];
	int rc = 0;

	if (a->n == 0) {
		*ret = (struct identity){.name = "anonymous", .tenant = "default", .scopes = SCOPE_ALL};
		return 0;
	}
	if (token == NULL || token[0] == '\0' || strlen(token) > AUTH_TOKEN_MAX) {
		rc = err_set(e, ERR_DENIED, "a token is required");
		err_hint(e, "send Authorization: Bearer TOKEN (DROVER_TOKEN for the command line)");
		goto out;
	}
	sha256_of(token, strlen(token), hash);
	/* All are compared, so that the time tells nothing about which one matched. */
	for (size_t i = 0; i < a->n; i++)
		if (secret_equal(hash, a->tokens[i].hash, SHA256_LEN))
			found = &a->tokens[i];
	if (found != NULL) {
		*ret = found->who;
	} else {
		rc = err_set(e, ERR_DENIED, "this token is not known");
		err_hint(e, "it is another dispatcher's, or was replaced; its operator makes new ones (drover init)");
	}
out:
	mem_wipe(scratch, sizeof(scratch));
	return rc;
}
