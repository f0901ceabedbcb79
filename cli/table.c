#include "cli/table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/text.h"

#define GAP 2
#define SHRINK_MIN 8 /* columns that a shrinking column keeps at least */
#define HARD_MIN 3   /* and any column, where even that is too much */
#define WRAP_MIN 16  /* narrower cells are cut, not wrapped */

struct table {
	const struct column *columns;
	size_t n;
	char **cells; /* rows * n */
	size_t rows, room;
};

struct table *
table_new(const struct column *columns, size_t n)
{
	struct table *t = xcalloc(1, sizeof(*t));

	assert(n >= 1 && n <= TABLE_COLUMNS_MAX);
	t->columns = columns;
	t->n = n;
	return t;
}

void
table_free(struct table *t)
{
	if (t == NULL)
		return;
	for (size_t i = 0; i < t->rows * t->n; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t);
}

void
table_add(struct table *t, const char *const *cells)
{
	if (t->rows == t->room) {
		t->room = t->room == 0 ? 16 : t->room * 2;
		t->cells = xrealloc(t->cells, t->room * t->n * sizeof(*t->cells));
	}
	for (size_t i = 0; i < t->n; i++)
		t->cells[t->rows * t->n + i] = text_safe(cells[i]);
	t->rows++;
}

size_t
table_rows(const struct table *t)
{
	return t->rows;
}

#define LEFT_OUT (-GAP) /* width of a column that is not shown */

static int
sum(const int *widths, size_t n)
{
	int total = GAP * ((int)n - 1);

	for (size_t i = 0; i < n; i++)
		total += widths[i];
	return total;
}

/* Takes one column of width after the other from the widest that has flag `with` (0: any) and not `without`, until the line fits. */
static void
shrink(const struct table *t, int *widths, int width, unsigned with, unsigned without, int least)
{
	while (sum(widths, t->n) > width) {
		size_t widest = t->n;

		for (size_t i = 0; i < t->n; i++)
			if ((t->columns[i].flags & (with | without)) == with && widths[i] > least &&
			    (widest == t->n || widths[i] > widths[widest]))
				widest = i;
		if (widest == t->n)
			return;
		widths[widest]--;
	}
}

/* Widths that show every cell whole. */
static void
natural(const struct table *t, int widths[TABLE_COLUMNS_MAX])
{
	for (size_t i = 0; i < t->n; i++) {
		int widest = 0;

		for (size_t r = 0; r < t->rows; r++) {
			int w = text_width(t->cells[r * t->n + i]);

			widest = w > widest ? w : widest;
		}
		widths[i] = text_width(t->columns[i].title);
		if (widest > widths[i])
			widths[i] = widest;
		else if (widest == 0 && (t->columns[i].flags & TABLE_OPTIONAL) != 0)
			widths[i] = LEFT_OUT;
	}
}

static void
measure(const struct table *t, int width, int widths[TABLE_COLUMNS_MAX])
{
	int full[TABLE_COLUMNS_MAX] = {0};

	natural(t, full);
	memcpy(widths, full, sizeof(full));
	if (width <= 0)
		return;
	shrink(t, widths, width, TABLE_SHRINK, 0, SHRINK_MIN);
	for (size_t i = t->n; i-- > 0 && sum(widths, t->n) > width;)
		if ((t->columns[i].flags & TABLE_DROP) != 0) {
			full[i] = LEFT_OUT;
			memcpy(widths, full, sizeof(full)); /* the others get their share of its room */
			shrink(t, widths, width, TABLE_SHRINK, 0, SHRINK_MIN);
		}
	shrink(t, widths, width, 0, TABLE_WHOLE, HARD_MIN);
}

static void
pad(struct buf *b, int n)
{
	while (n-- > 0)
		buf_addc(b, ' ');
}

static void
render_cell(struct buf *b, const struct column *c, const char *cell, int width, bool is_last, const char *style)
{
	int missing = width - text_width(cell);

	if (width == LEFT_OUT)
		return;
	if ((c->flags & TABLE_RIGHT) != 0)
		pad(b, missing);
	if (style != NULL)
		buf_addf(b, "\033[%sm", style);
	(void)text_clip(b, cell, width, (c->flags & TABLE_CLIP_LEFT) != 0);
	if (style != NULL)
		buf_adds(b, "\033[0m");
	if (is_last)
		return;
	pad(b, (c->flags & TABLE_RIGHT) != 0 ? GAP : (missing > 0 ? missing : 0) + GAP);
}

/* Ends a line without the blanks that nobody sees. */
static void
end_line(struct buf *b)
{
	while (b->len > 0 && b->data[b->len - 1] == ' ')
		b->data[--b->len] = '\0';
	buf_addc(b, '\n');
}

/* What of a cell stands on this line; *rest, where the last line ended, moves on. NULL: it is the first one. The result is to be freed. */
static char *
next_line(const struct column *c, const char *cell, int width, const char **rest)
{
	const char *from = *rest != NULL ? *rest : cell;
	size_t len = strlen(from);

	if ((c->flags & TABLE_WRAP) != 0 && width >= WRAP_MIN)
		*rest = text_take_line(from, width, &len);
	else
		*rest = from + len;
	return xstrndup(from, len);
}

static void
render_row(const struct table *t, const char *const *cells, const int *widths, bool color, struct buf *b)
{
	const char *rest[TABLE_COLUMNS_MAX] = {NULL};
	bool more = true;

	while (more) {
		more = false;
		for (size_t i = 0; i < t->n; i++) {
			const char *style = color && t->columns[i].style != NULL ? t->columns[i].style(cells[i]) : NULL;
			char *line = next_line(&t->columns[i], cells[i], widths[i], &rest[i]);

			render_cell(b, &t->columns[i], line, widths[i], i + 1 == t->n, line[0] != '\0' ? style : NULL);
			more |= rest[i][0] != '\0';
			free(line);
		}
		end_line(b);
	}
}

void
table_render(const struct table *t, int width, bool color, struct buf *b)
{
	int widths[TABLE_COLUMNS_MAX];

	measure(t, width, widths);
	for (size_t i = 0; i < t->n; i++)
		render_cell(b, &t->columns[i], t->columns[i].title, widths[i], i + 1 == t->n, color ? "1" : NULL);
	end_line(b);
	for (size_t r = 0; r < t->rows; r++)
		render_row(t, (const char *const *)&t->cells[r * t->n], widths, color, b);
}
