#include "base/clock.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t
read_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts); /* cannot fail for the two clocks used here */
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

struct now
clock_now(void)
{
	return (struct now){.mono_ms = clock_mono_ms(), .real_ms = clock_real_ms()};
}

int64_t
clock_mono_ms(void)
{
	return read_us(CLOCK_MONOTONIC) / 1000;
}

int64_t
clock_real_ms(void)
{
	return read_us(CLOCK_REALTIME) / 1000;
}

int64_t
clock_mono_us(void)
{
	return read_us(CLOCK_MONOTONIC);
}

char *
clock_text(int64_t real_ms, char out[CLOCK_TEXT_LEN])
{
	int64_t ms = real_ms % 1000;
	time_t sec = real_ms / 1000;
	struct tm tm;
	size_t len;

	out[0] = '\0';
	if (ms < 0) { /* before 1970: the division rounds towards zero, the text needs the floor */
		ms += 1000;
		sec--;
	}
	if (real_ms == 0 || gmtime_r(&sec, &tm) == NULL || tm.tm_year < -1900 || tm.tm_year > 9999 - 1900)
		return out;
	/* A year below 1000 is padded by hand: %Y is not. */
	len = (size_t)snprintf(out, CLOCK_TEXT_LEN, "%04u", (unsigned)(tm.tm_year + 1900) % 10000);
	len += strftime(out + len, CLOCK_TEXT_LEN - len, "-%m-%dT%H:%M:%S", &tm);
	snprintf(out + len, CLOCK_TEXT_LEN - len, ".%03uZ", (unsigned)ms % 1000);
	return out;
}

/* Reads text against a pattern, in which a '0' stands for any digit; the text may be longer. */
static bool
matches(const char *s, const char *pattern)
{
	for (; *pattern != '\0'; s++, pattern++)
		if (*pattern == '0' ? *s < '0' || *s > '9' : *s != *pattern)
			return false;
	return true;
}

static int
digits(const char *s, size_t n)
{
	int value = 0;

	while (n-- > 0)
		value = value * 10 + (*s++ - '0');
	return value;
}

/* "", or a dot and digits, then Z. Sets the milliseconds; what is finer is cut. */
static bool
read_fraction(const char *s, int64_t *ret_ms)
{
	int64_t ms = 0, unit_ms = 100;

	if (*s == '.') {
		if (s[1] < '0' || s[1] > '9')
			return false;
		for (s++; *s >= '0' && *s <= '9'; s++, unit_ms /= 10)
			ms += (*s - '0') * unit_ms;
	}
	*ret_ms = ms;
	return strcmp(s, "Z") == 0;
}

int
clock_parse(const char *s, int64_t *ret_real_ms, struct err *e)
{
	int64_t ms;
	struct tm tm, back;
	time_t sec;

	if (!matches(s, "0000-00-00T00:00:00") || !read_fraction(s + 19, &ms))
		goto bad;
	tm = (struct tm){.tm_year = digits(s, 4) - 1900, .tm_mon = digits(s + 5, 2) - 1, .tm_mday = digits(s + 8, 2),
	    .tm_hour = digits(s + 11, 2), .tm_min = digits(s + 14, 2), .tm_sec = digits(s + 17, 2)};
	if (tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60) /* 60: a leap second, counted as the next one */
		goto bad;
	back = tm;
	back.tm_sec = 0;
	sec = timegm(&back);
	if (back.tm_mon != tm.tm_mon || back.tm_mday != tm.tm_mday) /* timegm moved a day that does not exist */
		goto bad;
	*ret_real_ms = ((int64_t)sec + tm.tm_sec) * 1000 + ms;
	return 0;
bad:
	return err_set(e, ERR_INVALID, "'%.40s' is not a time in UTC such as 2026-11-21T11:44:07Z", s);
}
