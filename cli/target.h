/* target.h - a target on its way to the dispatcher: packed, digested, sent only where its content is not known. */
#ifndef CLI_TARGET_H
#define CLI_TARGET_H

#include <jansson.h>

#include "base/err.h"
#include "cli/cli.h"

#define TARGET_NAME_MAX 216

struct target {
	const char *what;           /* borrowed: the path or id */
	bool stored, dir;           /* an id; a directory */
	char name[TARGET_NAME_MAX]; /* of what will be uploaded; "" stored */
	const char *kind;           /* "tree", "file"; stored: "" to go by what it is. Borrowed. */
};

/* Sees what is meant: `what` is a directory, a file, or, where no such file is, the id of a target that is stored already.
 * kind: "tree", "file", or "" to go by what it is. Nothing is read yet. ERR_INVALID, ERR_NOTFOUND. */
int target_look(const char *what, const char *kind, struct target *ret, struct err *e);

/* Makes it known to the dispatcher: a directory is packed canonically, and what is there already is not sent. Progress and
 * what was left out go to stderr. Returns 0 and *ret = {"id","name","kind"} as a submission wants it (the caller decrefs). */
int target_bring(struct cli *c, const struct target *t, json_t **ret, struct err *e);

/* Whether a file of this name is an archive whose content is the target: .tar, .tar.gz, .tgz, .tar.zst, .tar.xz, .tar.bz2, .zip. */
bool target_name_is_archive(const char *name);

#endif
