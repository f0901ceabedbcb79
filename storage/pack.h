/* pack.h - a directory as one canonical archive: the same tree always gives the same bytes, so that it is stored once.
 *
 * PAX tar in zstd; entries sorted by name, times, owners and names of owners zeroed, modes reduced to 0644, 0755 and links; no
 * attributes. Left out, and told: sockets, fifos, devices, links that lead out of the tree, what .droverignore (in the root)
 * names. `.git` is kept. (The bytes also depend on the zstd library's version; across versions the same tree may be stored twice.)
 * Blocking; any thread.
 */
#ifndef STORAGE_PACK_H
#define STORAGE_PACK_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct pack_options {
	int64_t max_bytes;   /* of the files together; over it ERR_TOOBIG */
	int64_t max_entries;
	/* Told each path that is left out for what it is (not by .droverignore), with the reason; may be NULL. */
	void (*left_out)(void *arg, const char *path, const char *why);
	void *arg;
	const atomic_bool *stop; /* may be NULL */
};

struct pack_result {
	int64_t entries, bytes, ignored;
};

/* Packs the tree below dir and hands the archive to write in order (0 to go on; else packing ends with that value). A file that
 * changes while it is read is padded or cut to the size it had. Returns 0, ERR_NOTFOUND, ERR_INVALID (not a directory, names that are
 * not UTF-8, nothing in it), ERR_TOOBIG, ERR_CANCELED, ERR_IO. */
int pack_tree(const char *dir, const struct pack_options *o, int (*write)(void *arg, const void *data, size_t len), void *arg,
    struct pack_result *ret, struct err *e);

#endif
