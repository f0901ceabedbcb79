/* metadata.h - reading one strict YAML document by a table of keys; for workflow.c and vertical.c alone. Pure.
 *
 * A reader walks JSON values and knows the line of each, so that every complaint is "FILE:LINE: KEY: reason".
 */
#ifndef PROTO_METADATA_H
#define PROTO_METADATA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct meta_doc {
	const char *file;
	json_t *root;  /* owned */
	json_t *lines; /* owned: JSON pointer → line */
	struct err *e;
};

/* One key of an object: its name, whether it must be there, and the function that takes its value. */
struct meta_key {
	const char *name;
	bool required;
	/* value is never NULL; pointer is its JSON pointer for meta_bad. Returns 0 or ERR_INVALID. */
	int (*take)(struct meta_doc *d, const char *pointer, const json_t *value, void *into);
};

/* Parses text; the document is an object, or ERR_INVALID. Release in every case. */
int meta_open(struct meta_doc *d, const char *file, const char *text, size_t len, struct err *e);
void meta_release(struct meta_doc *d);

/* "FILE:LINE: KEY: reason" into d->e; the line is that of pointer or of its nearest known parent. Returns ERR_INVALID. */
int meta_bad(struct meta_doc *d, const char *pointer, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Checks that value is an object whose keys are all in the table, and has each taken. pointer "" is the document. */
int meta_object(struct meta_doc *d, const char *pointer, const json_t *value, const struct meta_key *keys, size_t n, void *into);

/* Typed values; 0 or ERR_INVALID after meta_bad. Texts have 1..max bytes; copied over *ret, which is freed. */
int meta_text(struct meta_doc *d, const char *pointer, const json_t *v, size_t max, char **ret);
int meta_int(struct meta_doc *d, const char *pointer, const json_t *v, int64_t min, int64_t max, int64_t *ret);
/* A text list of at most n_max items; NULL-terminated, freed with meta_list_free. */
int meta_list(struct meta_doc *d, const char *pointer, const json_t *v, size_t n_max, char ***ret);
void meta_list_free(char **list);
/* Index of the text among the words, or -1 after meta_bad. */
int meta_word(struct meta_doc *d, const char *pointer, const json_t *v, const char *const *words, size_t n);
/* Text that one of base/num.h's parsers takes (num_size, num_duration, num_cpu). */
int meta_measure(struct meta_doc *d, const char *pointer, const json_t *v,
    int (*parse)(const char *, int64_t, int64_t, int64_t *, struct err *), int64_t min, int64_t max, int64_t *ret);

#endif
