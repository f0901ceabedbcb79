#include "net/http_json.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/mem.h"
#include "net/http_client.h"

/* --- errors out --- */

/* A JSON string of s; where s is not UTF-8, everything beyond ASCII becomes '?'. */
static json_t *
text_of(const char *s)
{
	json_t *j = json_string(s);
	char *ascii;

	if (j != NULL)
		return j;
	ascii = xstrdup(s);
	for (char *p = ascii; *p != '\0'; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	j = json_string(ascii);
	free(ascii);
	return j;
}

char *
http_error_json(const struct err *e)
{
	json_t *j = json_pack("{s:{s:s, s:o, s:o}}", "error", "code", err_word(e->code), "message", text_of(e->msg), "hint",
	    text_of(e->hint));
	char *text = j == NULL ? NULL : json_dumps(j, JSON_COMPACT);

	json_decref(j);
	if (text == NULL)
		abort(); /* only without memory */
	return text;
}

/* --- errors in --- */

static int
code_of_status(int status)
{
	static const struct {
		int status, code;
	} table[] = {
	    {400, ERR_INVALID},
	    {401, ERR_DENIED},
	    {403, ERR_DENIED},
	    {404, ERR_NOTFOUND},
	    {408, ERR_RETRY},
	    {409, ERR_CONFLICT},
	    {412, ERR_CONFLICT},
	    {413, ERR_TOOBIG},
	    {422, ERR_INVALID},
	    {429, ERR_RETRY},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].status == status)
			return table[i].code;
	return status >= 500 && status <= 599 ? ERR_RETRY : ERR_PROTO;
}

int
http_status_err(const struct http_call *call, struct err *e)
{
	const char *body = call->out == NULL ? "" : buf_str(call->out);
	size_t len = call->out == NULL ? 0 : call->out->len;
	const char *message = NULL, *hint = "";
	json_t *j;
	int code;

	if (call->status < 400)
		return 0;
	code = code_of_status(call->status);
	j = json_loadb(body, len, 0, NULL);
	json_unpack(j, "{s:{s:s, s?s}}", "error", "message", &message, "hint", &hint);
	if (message == NULL) {
		/* Words of a server that does not speak our shape: the text up to a NUL, trimmed. */
		message = body + strspn(body, " \t\r\n");
		len = strlen(message);
		while (len > 0 && strchr(" \t\r\n", message[len - 1]) != NULL)
			len--;
		err_set(e, code, "HTTP %d%s%.*s", call->status, len > 0 ? ": " : "", (int)(len > 1024 ? 1024 : len), message);
	} else {
		err_set(e, code, "%s", message);
		if (hint != NULL && hint[0] != '\0')
			err_hint(e, "%s", hint);
	}
	json_decref(j);
	return code;
}

int
http_encode(struct buf *b, const char *s, bool keep_slash)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
	int rc = 0;

	for (; *s != '\0' && rc == 0; s++) {
		if (strchr(plain, *s) != NULL || (keep_slash && *s == '/'))
			rc = buf_addc(b, *s);
		else
			rc = buf_addf(b, "%%%02X", (unsigned)(unsigned char)*s);
	}
	return rc;
}
