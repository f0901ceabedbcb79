#include "base/num.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define KI 1024LL
#define MI (1024 * KI)
#define GI (1024 * MI)
#define TI (1024 * GI)
#define SECOND_MS 1000LL
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS (60 * MINUTE_MS)
#define DAY_MS (24 * HOUR_MS)

/* A fraction has at most this many digits: 10^6 * 1 TiB still fits into 63 bits. */
#define FRACTION_DIGITS_MAX 6

struct unit {
	const char *name;
	int64_t factor;
};

/* Reads the digits at *s and moves *s behind them; false if there are none or they do not fit. */
static bool
read_digits(const char **s, int64_t *ret_value)
{
	int64_t value = 0;
	const char *p = *s;

	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *p - '0', &value))
			return false;
	if (p == *s)
		return false;
	*s = p;
	*ret_value = value;
	return true;
}

static const struct unit *
find_unit(const struct unit *units, size_t n, const char *name, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (strlen(units[i].name) == len && memcmp(units[i].name, name, len) == 0)
			return &units[i];
	return NULL;
}

/* Reads digits, an optional fraction and a unit of the table, and nothing after; rounds down. A fraction finer than the
 * unit's parts is an error where the unit is 1. */
static bool
read_scaled(const char *s, const struct unit *units, size_t n, int64_t *ret_value)
{
	int64_t whole, fraction = 0, scale = 1;
	const struct unit *unit;

	if (!read_digits(&s, &whole))
		return false;
	if (*s == '.') {
		const char *start = ++s;

		if (!read_digits(&s, &fraction) || s - start > FRACTION_DIGITS_MAX)
			return false;
		for (; start < s; start++)
			scale *= 10;
	}
	unit = find_unit(units, n, s, strlen(s));
	if (unit == NULL || (scale > 1 && unit->factor == 1))
		return false;
	return !__builtin_mul_overflow(whole, unit->factor, &whole) &&
	    !__builtin_add_overflow(whole, fraction * unit->factor / scale, ret_value);
}

int
num_int(const char *s, int64_t min, int64_t max, int64_t *ret_value, struct err *e)
{
	bool negative = *s == '-', fits = true;
	const char *p = s + (*s == '-' || *s == '+');
	int64_t value = 0;

	if (*p == '\0')
		fits = false;
	for (; fits && *p != '\0'; p++) /* counted downwards, because the least number has no positive twin */
		fits = *p >= '0' && *p <= '9' && !__builtin_mul_overflow(value, 10, &value) &&
		    !__builtin_sub_overflow(value, *p - '0', &value);
	if (fits && !negative)
		fits = !__builtin_sub_overflow((int64_t)0, value, &value);
	if (!fits || value < min || value > max)
		return err_set(e, ERR_INVALID, "'%.40s' is not a whole number from %lld to %lld", s, (long long)min,
		    (long long)max);
	*ret_value = value;
	return 0;
}

int
num_size(const char *s, int64_t min, int64_t max, int64_t *ret_bytes, struct err *e)
{
	static const struct unit units[] = {
		{"", 1}, {"B", 1}, {"kB", 1000}, {"MB", 1000000}, {"GB", 1000000000}, {"TB", 1000000000000},
		{"Ki", KI}, {"Mi", MI}, {"Gi", GI}, {"Ti", TI}, {"KiB", KI}, {"MiB", MI}, {"GiB", GI}, {"TiB", TI},
	};
	char low[32], high[32];
	int64_t bytes;

	if (!read_scaled(s, units, sizeof(units) / sizeof(units[0]), &bytes) || bytes < min || bytes > max)
		return err_set(e, ERR_INVALID, "'%.40s' is not a size (such as 64Mi or 1.5GB) from %s to %s", s,
		    num_format_size(min, low, sizeof(low)), num_format_size(max, high, sizeof(high)));
	*ret_bytes = bytes;
	return 0;
}

static const struct unit durations[] = {{"d", DAY_MS}, {"h", HOUR_MS}, {"m", MINUTE_MS}, {"s", SECOND_MS}, {"ms", 1}};

#define N_DURATIONS (sizeof(durations) / sizeof(durations[0]))

static bool
read_duration(const char *s, int64_t *ret_ms)
{
	int64_t total = 0, part;
	const struct unit *unit, *next = durations; /* the largest unit that may still come */

	if (strcmp(s, "0") == 0) {
		*ret_ms = 0;
		return true;
	}
	do {
		size_t len;

		if (!read_digits(&s, &part))
			return false;
		len = strcspn(s, "0123456789");
		unit = find_unit(next, (size_t)(durations + N_DURATIONS - next), s, len);
		if (unit == NULL || __builtin_mul_overflow(part, unit->factor, &part) ||
		    __builtin_add_overflow(total, part, &total))
			return false;
		next = unit + 1;
		s += len;
	} while (*s != '\0');
	*ret_ms = total;
	return true;
}

int
num_duration(const char *s, int64_t min, int64_t max, int64_t *ret_ms, struct err *e)
{
	char low[32], high[32];
	int64_t ms;

	if (!read_duration(s, &ms) || ms < min || ms > max)
		return err_set(e, ERR_INVALID, "'%.40s' is not a duration (such as 90s or 1h30m) from %s to %s", s,
		    num_format_duration(min, low, sizeof(low)), num_format_duration(max, high, sizeof(high)));
	*ret_ms = ms;
	return 0;
}

int
num_cpu(const char *s, int64_t min, int64_t max, int64_t *ret_millicores, struct err *e)
{
	static const struct unit units[] = {{"m", 1}, {"", 1000}};
	int64_t millicores;

	if (!read_scaled(s, units, sizeof(units) / sizeof(units[0]), &millicores) || millicores < min || millicores > max)
		return err_set(e, ERR_INVALID, "'%.40s' is not a share of processors (such as 500m or 1.5) from %lldm to %lldm",
		    s, (long long)min, (long long)max);
	*ret_millicores = millicores;
	return 0;
}

char *
num_format_size(int64_t bytes, char *out, size_t out_len)
{
	static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = bytes < 0 ? -(double)bytes : (double)bytes;
	const char *sign = bytes < 0 ? "-" : "";
	size_t unit = 0;
	long long tenths;

	/* 1023.95 and more would be printed as 1024.0 */
	for (; value >= (unit == 0 ? 1024 : 1023.95) && unit + 1 < sizeof(names) / sizeof(names[0]); unit++)
		value /= 1024;
	tenths = (long long)(value * 10 + 0.5);
	if (tenths % 10 == 0)
		snprintf(out, out_len, "%s%lld %s", sign, tenths / 10, names[unit]);
	else
		snprintf(out, out_len, "%s%lld.%lld %s", sign, tenths / 10, tenths % 10, names[unit]);
	return out;
}

/* The largest unit that is needed and the one below it: more is noise. */
char *
num_format_duration(int64_t ms, char *out, size_t out_len)
{
	uint64_t rest = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;
	const char *sign = ms < 0 ? "-" : "";
	uint64_t first, second;
	size_t i = 0;

	if (ms == 0) {
		snprintf(out, out_len, "0s");
		return out;
	}
	while (rest < (uint64_t)durations[i].factor)
		i++;
	first = rest / (uint64_t)durations[i].factor;
	second = i + 1 < N_DURATIONS ? rest % (uint64_t)durations[i].factor / (uint64_t)durations[i + 1].factor : 0;
	if (second == 0)
		snprintf(out, out_len, "%s%llu%s", sign, (unsigned long long)first, durations[i].name);
	else
		snprintf(out, out_len, "%s%llu%s %llu%s", sign, (unsigned long long)first, durations[i].name,
		    (unsigned long long)second, durations[i + 1].name);
	return out;
}
