/* terminal.h - what a person sees: whether stdout and stderr are terminals, their width, and one live line at the bottom. */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include <stdbool.h>

#include "cli/options.h"

struct terminal {
	bool out_tty, err_tty; /* a terminal that is not dumb */
	bool color;            /* of stdout */
	int width;             /* of stdout's tables; 0: unlimited (no terminal) */
};

/* Looks at the descriptors and the settings. */
void terminal_look(struct terminal *t, const struct cli_settings *s);

/* Columns that are there right now on stderr; 80 where nobody knows. */
int terminal_err_width(void);

struct live; /* a line on stderr that is drawn again and again by a thread of its own, with a spinner and the time */

/* NULL where stderr is no terminal, or nobody wants to see it; all functions take NULL. */
struct live *live_start(const struct terminal *t, bool wanted);

/* Replaces the line's text; one line, safe for a terminal. */
void live_set(struct live *l, const char *text);

/* Prints a line above the live line (also where l is NULL): stderr. */
void live_say(struct live *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Erases the line and ends the thread. */
void live_stop(struct live *l);

#endif
