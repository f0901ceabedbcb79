#include "storage/dir_name.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/digest.h"

#define CUT_BYTES 80 /* encoded at most 240, below the 255 of a file name */

static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

static char *
encode(char *out, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (strchr(plain, s[i]) != NULL && (s[i] != '.' || i > 0)) {
			*out++ = s[i];
		} else {
			*out++ = '%';
			hex_encode(&s[i], 1, out);
			out += 2;
		}
	}
	return out;
}

void
dir_name_path(const char *key, char out[DIR_NAME_PATH_MAX])
{
	char *p = out;

	/* 1,024 bytes, thrice for the encoding, with a mark and a slash for every 80 or every other byte: it always fits. */
	assert(strlen(key) <= 1024);
	while (true) {
		size_t len = strcspn(key, "/");

		for (; len >= CUT_BYTES; len -= CUT_BYTES, key += CUT_BYTES) {
			p = encode(p, key, CUT_BYTES);
			*p++ = '+', *p++ = '/';
		}
		p = encode(p, key, len);
		key += len;
		if (*key == '\0')
			break;
		*p++ = '@', *p++ = '/';
		key++;
	}
	if (p == out || p[-1] == '/')
		*p++ = '=';
	*p = '\0';
	assert((size_t)(p - out) < DIR_NAME_PATH_MAX);
}

bool
dir_name_piece(const char *entry, char *out, size_t out_len, bool *ret_dir)
{
	size_t len = strlen(entry), n = 0;
	char mark = len > 0 ? entry[len - 1] : '\0';

	if (len == 0 || entry[0] == '.' || len + 1 > out_len)
		return false;
	*ret_dir = mark == '@' || mark == '+';
	if (*ret_dir || strcmp(entry, "=") == 0)
		len--;
	for (size_t i = 0; i < len; i++) {
		uint8_t byte = (uint8_t)entry[i];

		if (entry[i] == '%') {
			char pair[3] = {i + 1 < len ? entry[i + 1] : '\0', i + 2 < len ? entry[i + 2] : '\0', '\0'};

			if (!hex_decode(pair, 1, &byte) || byte == 0)
				return false;
			i += 2;
		} else if (strchr(plain, entry[i]) == NULL) {
			return false;
		}
		out[n++] = (char)byte;
	}
	if (mark == '@')
		out[n++] = '/';
	out[n] = '\0';
	return true;
}
