/* The part of digest.h that needs no library: hexadecimal and base64 text, random bytes. */
#include "base/digest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"

char *
hex_encode(const void *data, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	out[2 * len] = '\0';
	return out;
}

int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool
hex_decode(const char *s, size_t len, uint8_t *out)
{
	for (size_t i = 0; i < 2 * len; i++) /* checked whole before anything is written; ends at a NUL as well */
		if (hex_digit(s[i]) < 0 || (s[i] >= 'A' && s[i] <= 'F'))
			return false;
	if (s[2 * len] != '\0')
		return false;
	for (size_t i = 0; out != NULL && i < len; i++)
		out[i] = (uint8_t)(hex_digit(s[2 * i]) << 4 | hex_digit(s[2 * i + 1]));
	return true;
}

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *
base64_encode(const void *data, size_t len, char *out)
{
	const uint8_t *p = data;
	char *o = out;

	for (size_t i = 0; i < len; i += 3) {
		size_t n = len - i < 3 ? len - i : 3;
		uint32_t group = (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (n > 2 ? p[i + 2] : 0);

		*o++ = base64_digits[group >> 18];
		*o++ = base64_digits[group >> 12 & 63];
		*o++ = '=';
		*o++ = '=';
		if (n > 1)
			o[-2] = base64_digits[group >> 6 & 63];
		if (n > 2)
			o[-1] = base64_digits[group & 63];
	}
	*o = '\0';
	return out;
}

long
base64_decode(const char *s, uint8_t *out)
{
	size_t len = strlen(s), pad = 0, n = 0;

	if (len % 4 != 0)
		return -1;
	while (pad < 2 && pad < len && s[len - 1 - pad] == '=')
		pad++;
	for (size_t i = 0; i < len; i += 4) {
		size_t drop = i + 4 == len ? pad : 0;
		uint32_t group = 0;

		for (size_t k = 0; k < 4 - drop; k++) {
			const char *digit = strchr(base64_digits, s[i + k]); /* s[i + k] is never NUL here */

			if (digit == NULL)
				return -1;
			group |= (uint32_t)(digit - base64_digits) << (18 - 6 * k);
		}
		if ((group & ((1u << 8 * drop) - 1)) != 0) /* bits that no byte takes: two texts for one value */
			return -1;
		for (size_t k = 0; k < 3 - drop; k++)
			out[n++] = (uint8_t)(group >> (16 - 8 * k));
	}
	return (long)n;
}

void
random_bytes(void *out, size_t len)
{
	uint8_t *p = out;

	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			log_error("random", "the kernel's random generator: %s", strerror(errno));
			abort();
		}
		p += n;
		len -= (size_t)n;
	}
}

void
uuid_text(char out[37])
{
	uint8_t id[16];
	char hex[33];

	random_bytes(id, sizeof(id));
	id[6] = (uint8_t)(0x40 | (id[6] & 0x0f)); /* version 4, variant 10: RFC 9562 */
	id[8] = (uint8_t)(0x80 | (id[8] & 0x3f));
	hex_encode(id, sizeof(id), hex);
	snprintf(out, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}
