#include "base/utf8.h"

#include "base/digest.h"

int
utf8_decode(const char *s, size_t len, uint32_t *ret_code)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned char lead = (unsigned char)s[0];
	size_t n = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
	uint32_t code = n < 2 ? lead : lead & (0xffu >> (n + 1));

	for (size_t i = 1; i < n; i++) {
		if (i >= len)
			return UTF8_CUT;
		if (((unsigned char)s[i] & 0xc0) != 0x80) /* the final NUL as well */
			return 0;
		code = code << 6 | ((unsigned char)s[i] & 0x3f);
	}
	if (n > 1 && (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)))
		return 0;
	if (n > 0 && ret_code != NULL)
		*ret_code = code;
	return (int)n;
}

bool
utf8_valid(const char *s)
{
	int n;

	for (; *s != '\0'; s += n)
		if ((n = utf8_decode(s, UTF8_TO_NUL, NULL)) == 0)
			return false;
	return true;
}

bool
utf8_misleads(uint32_t code)
{
	static const struct {
		uint32_t first, last;
	} ranges[] = {{0, 0x1f}, {0x7f, 0x9f}, {0xad, 0xad}, {0x61c, 0x61c}, {0x180e, 0x180e}, {0x200b, 0x200f}, {0x2028, 0x202e},
	    {0x2060, 0x206f}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe0fff}};

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		if (code >= ranges[i].first && code <= ranges[i].last)
			return true;
	return false;
}

int
percent_byte(const char *s)
{
	int high = s[0] == '%' ? hex_digit(s[1]) : -1, low = high >= 0 ? hex_digit(s[2]) : -1;

	return low >= 0 ? high << 4 | low : -1;
}
