/* key_template.h - a workflow's concurrency key: a text with ${target}, ${workflow} and ${params.NAME} in it. Pure.
 *
 * Runs of one tenant with the same rendered key share slots. "$$" is a dollar sign.
 */
#ifndef PROTO_KEY_TEMPLATE_H
#define PROTO_KEY_TEMPLATE_H

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

#define KEY_TEMPLATE_MAX 256 /* bytes of a template */

/* Whether every name in it is known; schema: of the workflow's parameters. ERR_INVALID names the one that is not. */
int key_template_check(const char *text, const json_t *schema, struct err *e);

struct key_values {
	const char *target, *workflow;
	const json_t *params;  /* object, defaults filled in; an absent one renders as nothing, one that is no text as JSON */
};

/* Renders a template that key_template_check took. A key of out_len bytes or more becomes "sha256:" and its digest in hex, so out_len
 * must be 72 at least. */
void key_template_render(const char *text, const struct key_values *v, char *out, size_t out_len);

#endif
