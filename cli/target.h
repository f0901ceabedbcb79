/* target.h - a target on its way to the dispatcher: packed, digested, sent only where its content is not known. */
#ifndef CLI_TARGET_H
#define CLI_TARGET_H

#include <jansson.h>

#include "base/err.h"
#include "cli/cli.h"

/* Makes the target known: `what` is a directory (packed canonically), a file, or, where no such file is, the id of a target that is
 * stored already. kind: "tree", "file", or "" to go by what it is. Progress and what was left out go to stderr. Returns 0
 * and *ret = {"id","name","kind"} as a submission wants it (the caller decrefs). */
int target_bring(struct cli *c, const char *what, const char *kind, json_t **ret, struct err *e);

/* Whether a file of this name is an archive whose content is the target: .tar, .tar.gz, .tgz, .tar.zst, .tar.xz, .tar.bz2, .zip. */
bool target_name_is_archive(const char *name);

#endif
