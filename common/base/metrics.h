/* metrics.h - counters, gauges and histograms of the program, printed as Prometheus text 0.0.4.
 *
 * Metrics are declared once in a table (name, kind, help, label name) and used by row number. Updates are atomic and
 * cheap; any thread. A labelled metric has at most METRICS_LABELS_MAX different values, all further ones count as "other":
 * the set cannot be blown up from outside.
 */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define METRICS_LABELS_MAX 64

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_SECONDS }; /* SECONDS: histogram, fixed buckets 1 ms … 1 h */

struct metric {
	const char *name; /* "drover_runs_total" */
	enum metric_kind kind;
	const char *label; /* label's name, or NULL */
	const char *help;
};

/* Declares the program's metrics; the table is kept. Call once, before any other thread runs. */
void metrics_init(const struct metric *table, size_t n);

/* Adds to a counter or gauge; sets a gauge; observes a duration. label_value is NULL for metrics without a label. */
void metrics_add(size_t row, const char *label_value, int64_t n);
void metrics_set(size_t row, const char *label_value, int64_t value);
void metrics_observe_ms(size_t row, const char *label_value, int64_t ms);

/* Appends all metrics, and process_resident_memory_bytes and process_start_time_seconds, to *b. */
void metrics_print(struct buf *b);

#endif
