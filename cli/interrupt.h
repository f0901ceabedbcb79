/* interrupt.h - Ctrl-C and its kin: a flag that ends calls, and waits that a signal cuts short. */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Catches SIGINT, SIGTERM and SIGHUP. Call once, before any thread is started. */
void interrupt_catch(void);

/* Set once a signal came; for http_call.stop and its like. */
const atomic_bool *interrupt_flag(void);
bool interrupted(void);

/* Forgets a signal that was dealt with. */
void interrupt_clear(void);

/* Waits ms milliseconds (-1: for ever), or until a signal comes or fd (-1: none) has something to read. True if fd has. */
bool interrupt_wait(int64_t ms, int fd);

/* Asks `question` on stderr and reads what a person answers on the terminal that is stdin; its first character, 0 for an empty line,
 * the end of input and a signal (which ends the wait at once). */
char interrupt_ask(const char *question);

/* Readable once a signal came, for a poll of one's own. */
int interrupt_fd(void);

#endif
