/* http_json.h - the one shape in which errors travel: {"error":{"code","message","hint"}}. Private to common/net. */
#ifndef NET_HTTP_JSON_H
#define NET_HTTP_JSON_H

#include "base/err.h"

/* The error as JSON text (bytes that are not UTF-8 replaced); the caller frees. Never NULL. */
char *http_error_json(const struct err *e);

#endif
