/* log.h - one line per event on stderr: JSON when it is not a terminal (or LOG_FORMAT=json), text when it is.
 *
 * A line has time, level, program, the object that it is about (run id, request, worker, …), and the message; everything
 * that cannot be printed is escaped, so that names from outside cannot forge lines. Shared code (common/, storage/) logs
 * at debug only and returns errors instead; programs log once. Any thread.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* Sets the program's name (kept by reference), the least level that is written, and the format. Call once, first. */
void log_init(const char *program, enum log_level least, bool json);

/* Reads a level's name ("debug", "info", "warn", "error"); false if it is none. */
bool log_level_parse(const char *s, enum log_level *ret_level);

/* Writes one line with one write(2); object may be NULL and is cut at 255 bytes. A line is cut at 4 KiB (PIPE_BUF), so that
 * lines of several threads and processes never mix. Keeps errno. */
void log_at(enum log_level level, const char *object, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#define log_debug(object, ...) log_at(LOG_DEBUG, object, __VA_ARGS__)
#define log_info(object, ...) log_at(LOG_INFO, object, __VA_ARGS__)
#define log_warn(object, ...) log_at(LOG_WARN, object, __VA_ARGS__)
#define log_error(object, ...) log_at(LOG_ERROR, object, __VA_ARGS__)

#endif
