/* table.h - lists for people: columns that fit the terminal's width. Pure; cells are made safe by text_safe. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

#define TABLE_COLUMNS_MAX 12

enum {
	TABLE_RIGHT = 1 << 0,     /* flush right: numbers */
	TABLE_SHRINK = 1 << 1,    /* gives way first where the width does not do */
	TABLE_CLIP_LEFT = 1 << 2, /* where it is cut the end stays: paths */
	TABLE_OPTIONAL = 1 << 3,  /* left out while all its cells are empty */
	TABLE_DROP = 1 << 4,      /* left out, the last one first, where shrinking the others does not do */
	TABLE_WHOLE = 1 << 5,     /* never cut, whatever the width: ids that are copied from here */
	TABLE_WRAP = 1 << 6,      /* goes on in more lines where it would be cut, unless it is very narrow: reasons */
};

struct column {
	const char *title;
	unsigned flags;
	const char *(*style)(const char *cell); /* the cell's SGR parameters ("31"), or NULL for plain; NULL: never styled */
};

struct table;

/* A table of n <= TABLE_COLUMNS_MAX columns, kept by reference; never NULL. table_free(NULL) is allowed. */
struct table *table_new(const struct column *columns, size_t n);
void table_free(struct table *t);

/* Adds a row of n cells, copied; NULL stands for "". */
void table_add(struct table *t, const char *const *cells);

/* Number of rows. */
size_t table_rows(const struct table *t);

/* Appends the title line and the rows, each line at most `width` columns wide (0: as wide as they are) unless a
 * column that is never cut needs more. */
void table_render(const struct table *t, int width, bool color, struct buf *b);

#endif
