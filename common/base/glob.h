/* glob.h - matching relative paths against patterns, as in .gitignore and in a workflow's artefact list. Pure. */
#ifndef BASE_GLOB_H
#define BASE_GLOB_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Whether the whole path matches. `*` and `?` stay inside one component, `[a-z]` and `[!a-z]` are classes, a component "**"
 * stands for any number of components (none included), `\` takes the next character as it is. Time is bounded by the product of
 * lengths. */
bool glob_match(const char *pattern, const char *path);

struct ignore; /* the rules of one ignore file */

/* Parses lines of patterns: blank lines and '#' comments are skipped, "!" takes back, a trailing "/" means directories only, a
 * pattern with a "/" that is not the last character is relative to the root, any other matches at every depth. At most 1,000
 * rules. Never NULL on success; ERR_INVALID names the line. ignore_free(NULL) is allowed. */
int ignore_parse(const char *text, struct ignore **ret, struct err *e);
void ignore_free(struct ignore *ig);

/* Whether the path (relative, "a/b") is left out; the last rule that matches decides. What is below an ignored directory is for the
 * caller never to ask. ig may be NULL: nothing is ignored. */
bool ignore_match(const struct ignore *ig, const char *path, bool dir);

#endif
