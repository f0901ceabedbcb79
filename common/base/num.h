/* num.h - numbers from text, always with bounds; sizes and durations as people write them. Pure. */
#ifndef BASE_NUM_H
#define BASE_NUM_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Parses a whole decimal integer (optional sign, no blanks, nothing after it) within [min, max].
 * Returns 0 and sets *ret_value, or ERR_INVALID with the bounds in the message and *ret_value untouched. */
int num_int(const char *s, int64_t min, int64_t max, int64_t *ret_value, struct err *e);

/* Parses a size: digits with an optional decimal fraction and a unit: B (or none), kB MB GB TB (powers of 1000), Ki Mi Gi Ti
 * or KiB MiB GiB TiB (powers of 1024). Other suffixes are refused. Same bounds and errors as num_int; bytes. */
int num_size(const char *s, int64_t min, int64_t max, int64_t *ret_bytes, struct err *e);

/* Parses a duration: digits and a unit ms, s, m, h or d, several in falling order allowed ("1h30m"); a bare "0" is 0.
 * Same bounds and errors as num_int; milliseconds. */
int num_duration(const char *s, int64_t min, int64_t max, int64_t *ret_ms, struct err *e);

/* Parses processor shares: "500m" = 500, "2" or "1.5" cores = 2000, 1500. Same bounds and errors; thousandths of a core. */
int num_cpu(const char *s, int64_t min, int64_t max, int64_t *ret_millicores, struct err *e);

/* Writes a size or duration for people ("1.5 GiB", "2m 3s"), cut to fit; returns out. */
char *num_format_size(int64_t bytes, char *out, size_t out_len);
char *num_format_duration(int64_t ms, char *out, size_t out_len);

#endif
