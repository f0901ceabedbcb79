#include "base/metrics.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/num.h"

#define LABEL_BYTES 64

static const int64_t bucket_ms[] = {1, 5, 10, 50, 100, 500, 1000, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000};

#define N_BUCKETS (sizeof(bucket_ms) / sizeof(bucket_ms[0]))

/* One line of values. Series are added, never removed: a reader that sees one may use it for ever. */
struct series {
	char label[LABEL_BYTES];
	atomic_int_least64_t value; /* counter, gauge; of a histogram the sum in milliseconds */
	atomic_int_least64_t *buckets; /* N_BUCKETS and the one without a bound; NULL if no histogram */
};

struct row {
	_Atomic(struct series *) series[METRICS_LABELS_MAX + 1]; /* filled from the front; the last one is "other" */
};

static const struct metric *metrics;
static size_t n_metrics;
static struct row *rows;
static int64_t start_real_ms;
static pthread_mutex_t adding = PTHREAD_MUTEX_INITIALIZER; /* held to add a series, not to use one */

static struct series *
add_series(size_t row, size_t slot, const char *label)
{
	struct series *s = xcalloc(1, sizeof(*s));

	snprintf(s->label, sizeof(s->label), "%s", label);
	if (metrics[row].kind == METRIC_SECONDS)
		s->buckets = xcalloc(N_BUCKETS + 1, sizeof(s->buckets[0]));
	atomic_store_explicit(&rows[row].series[slot], s, memory_order_release);
	return s;
}

/* The series of a label, or NULL and the first free slot in *ret_slot. */
static struct series *
find_series(size_t row, const char *label, size_t *ret_slot)
{
	for (size_t i = 0; i < METRICS_LABELS_MAX; i++) {
		struct series *s = atomic_load_explicit(&rows[row].series[i], memory_order_acquire);

		if (s == NULL) {
			*ret_slot = i;
			return NULL;
		}
		if (strcmp(s->label, label) == 0)
			return s;
	}
	*ret_slot = METRICS_LABELS_MAX;
	return atomic_load_explicit(&rows[row].series[METRICS_LABELS_MAX], memory_order_acquire);
}

/* Label values may come from outside: printable ASCII without quote and backslash, and short. */
static void
clean_label(const char *value, char out[LABEL_BYTES])
{
	size_t i;

	for (i = 0; value[i] != '\0' && i < LABEL_BYTES - 1; i++)
		out[i] = value[i] < 0x20 || value[i] > 0x7e || value[i] == '"' || value[i] == '\\' ? '_' : value[i];
	out[i] = '\0';
}

static struct series *
series_of(size_t row, const char *label_value)
{
	char label[LABEL_BYTES];
	struct series *s;
	size_t slot;

	assert(row < n_metrics && (metrics[row].label != NULL) == (label_value != NULL));
	clean_label(label_value != NULL ? label_value : "", label);
	s = find_series(row, label, &slot);
	if (s != NULL)
		return s;
	pthread_mutex_lock(&adding);
	s = find_series(row, label, &slot); /* another thread may have been first */
	if (s == NULL)
		s = add_series(row, slot, slot == METRICS_LABELS_MAX ? "other" : label);
	pthread_mutex_unlock(&adding);
	return s;
}

static void
forget_rows(void)
{
	for (size_t row = 0; row < n_metrics; row++)
		for (size_t i = 0; i <= METRICS_LABELS_MAX; i++) {
			struct series *s = atomic_load(&rows[row].series[i]);

			if (s != NULL)
				free(s->buckets);
			free(s);
		}
	free(rows);
}

void
metrics_init(const struct metric *table, size_t n)
{
	forget_rows();
	metrics = table;
	n_metrics = n;
	rows = xcalloc(n, sizeof(rows[0]));
	start_real_ms = clock_real_ms();
	for (size_t row = 0; row < n; row++)
		if (table[row].label == NULL) /* shown as 0 from the start */
			series_of(row, NULL);
}

void
metrics_add(size_t row, const char *label_value, int64_t n)
{
	atomic_fetch_add_explicit(&series_of(row, label_value)->value, n, memory_order_relaxed);
}

void
metrics_set(size_t row, const char *label_value, int64_t value)
{
	atomic_store_explicit(&series_of(row, label_value)->value, value, memory_order_relaxed);
}

void
metrics_observe_ms(size_t row, const char *label_value, int64_t ms)
{
	struct series *s = series_of(row, label_value);
	size_t i = 0;

	assert(s->buckets != NULL);
	if (ms < 0)
		ms = 0;
	while (i < N_BUCKETS && ms > bucket_ms[i])
		i++;
	atomic_fetch_add_explicit(&s->buckets[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->value, ms, memory_order_relaxed);
}

static void
print_seconds(struct buf *b, int64_t ms)
{
	buf_addf(b, "%" PRId64 ".%03" PRId64 "\n", ms / 1000, ms % 1000);
}

/* name{label="value"} and a blank; suffix and bound are for histograms. */
static void
print_name(struct buf *b, const struct metric *m, const char *suffix, const char *label, const char *bound)
{
	buf_addf(b, "%s%s", m->name, suffix);
	if (m->label != NULL || bound != NULL) {
		buf_addc(b, '{');
		if (m->label != NULL)
			buf_addf(b, "%s=\"%s\"", m->label, label);
		if (bound != NULL)
			buf_addf(b, "%sle=\"%s\"", m->label != NULL ? "," : "", bound);
		buf_addc(b, '}');
	}
	buf_addc(b, ' ');
}

static void
print_histogram(struct buf *b, const struct metric *m, struct series *s)
{
	int64_t sum_ms = atomic_load_explicit(&s->value, memory_order_relaxed), count = 0;
	char bound[24];

	/* The total is counted from the buckets, so that it agrees with them while others observe. */
	for (size_t i = 0; i <= N_BUCKETS; i++) {
		count += atomic_load_explicit(&s->buckets[i], memory_order_relaxed);
		if (i < N_BUCKETS)
			snprintf(bound, sizeof(bound), "%g", (double)bucket_ms[i] / 1000);
		print_name(b, m, "_bucket", s->label, i < N_BUCKETS ? bound : "+Inf");
		buf_addf(b, "%" PRId64 "\n", count);
	}
	print_name(b, m, "_sum", s->label, NULL);
	print_seconds(b, sum_ms);
	print_name(b, m, "_count", s->label, NULL);
	buf_addf(b, "%" PRId64 "\n", count);
}

static void
print_metric(struct buf *b, size_t row)
{
	static const char *const types[] = {"counter", "gauge", "histogram"};
	const struct metric *m = &metrics[row];

	buf_addf(b, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, types[m->kind]);
	for (size_t i = 0; i <= METRICS_LABELS_MAX; i++) {
		struct series *s = atomic_load_explicit(&rows[row].series[i], memory_order_acquire);

		if (s == NULL)
			continue;
		if (m->kind == METRIC_SECONDS) {
			print_histogram(b, m, s);
			continue;
		}
		print_name(b, m, "", s->label, NULL);
		buf_addf(b, "%" PRId64 "\n", (int64_t)atomic_load_explicit(&s->value, memory_order_relaxed));
	}
}

/* The second number of /proc/self/statm counts resident pages. */
static int64_t
resident_bytes(void)
{
	struct buf b = buf_make(256);
	int64_t pages = 0;
	char *word, *save = NULL;

	if (file_read(AT_FDCWD, "/proc/self/statm", &b, NULL) == 0 && b.len > 0 && strtok_r(b.data, " ", &save) != NULL &&
	    (word = strtok_r(NULL, " ", &save)) != NULL)
		(void)num_int(word, 0, INT64_MAX, &pages, NULL); /* not a number: 0 */
	buf_release(&b);
	return pages * sysconf(_SC_PAGESIZE);
}

void
metrics_print(struct buf *b)
{
	for (size_t row = 0; row < n_metrics; row++)
		print_metric(b, row);
	buf_addf(b, "# HELP process_resident_memory_bytes Memory of this process that is in RAM.\n"
	    "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %" PRId64 "\n", resident_bytes());
	buf_adds(b, "# HELP process_start_time_seconds When this process started, seconds since 1970.\n"
	    "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds ");
	print_seconds(b, start_real_ms);
}
