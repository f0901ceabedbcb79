/* Names of archive entries: pure text, no system calls. */
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "storage/extract_parts.h"

#define QUOTE_SHOWN 48 /* bytes of the name that are shown at most */

const char *
extract_quote(const char *name, char out[EXTRACT_QUOTE_LEN])
{
	static const char hex[] = "0123456789abcdef";
	const char *s = name;
	size_t n = 0, shown = 0;

	out[n++] = '"';
	/* One step adds at most 4 bytes; the closing ..." and NUL need 5. */
	while (*s != '\0' && shown < QUOTE_SHOWN && n + 9 < EXTRACT_QUOTE_LEN) {
		uint32_t code;
		int len = utf8_decode(s, UTF8_TO_NUL, &code);

		if (len > 1 && !utf8_misleads(code)) {
			memcpy(out + n, s, (size_t)len);
			n += (size_t)len, s += len, shown += (size_t)len;
			continue;
		}
		if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f || *s == '"' || *s == '\\') {
			out[n++] = '\\';
			out[n++] = 'x';
			out[n++] = hex[(unsigned char)*s >> 4];
			out[n++] = hex[*s & 15];
		} else {
			out[n++] = *s;
		}
		s++, shown++;
	}
	snprintf(out + n, EXTRACT_QUOTE_LEN - n, "%s\"", *s != '\0' ? "..." : "");
	return out;
}

/* One component of an entry's name. */
static int
check_component(const char *s, size_t len, struct err *e)
{
	if (len == 2 && s[0] == '.' && s[1] == '.')
		return err_set(e, ERR_INVALID, "the name has a \"..\" component");
	if (len > EXTRACT_COMPONENT_MAX)
		return err_set(e, ERR_TOOBIG, "a component of the name has %zu bytes, %d are allowed", len, EXTRACT_COMPONENT_MAX);
	/* Layered file systems take these names for deletions. */
	if (len >= 4 && memcmp(s, ".wh.", 4) == 0)
		return err_set(e, ERR_INVALID, "the name is a layer's whiteout (\".wh.\")");
	return 0;
}

int
extract_name_clean(const char *raw, const struct extract_limits *l, char *out, unsigned *ret_parts, struct err *e)
{
	size_t total = strlen(raw), n = 0;
	unsigned parts = 0;
	int rc;

	if (total == 0)
		return err_set(e, ERR_INVALID, "the name is empty");
	if ((int64_t)total > l->max_name_bytes || total > EXTRACT_PATH_MAX)
		return err_set(e, ERR_TOOBIG, "the name has %zu bytes, %lld are allowed", total, (long long)l->max_name_bytes);
	if (raw[0] == '/')
		return err_set(e, ERR_INVALID, "the name is absolute");
	if (!utf8_valid(raw)) {
		err_set(e, ERR_INVALID, "the name is not UTF-8");
		err_hint(e, "pack it again with UTF-8 names (convmv renames them)");
		return ERR_INVALID;
	}
	for (const char *s = raw; *s != '\0';) {
		size_t len = strcspn(s, "/");

		if (len > 0 && !(len == 1 && s[0] == '.')) {
			if ((rc = check_component(s, len, e)) != 0)
				return rc;
			if (n > 0)
				out[n++] = '/';
			memcpy(out + n, s, len);
			n += len;
			parts++;
		}
		s += len;
		s += *s == '/';
	}
	out[n] = '\0';
	if (parts > 0 && (int64_t)parts - 1 > l->max_depth)
		return err_set(e, ERR_TOOBIG, "the name is %u directories deep, %lld are allowed", parts - 1,
		    (long long)l->max_depth);
	*ret_parts = parts;
	return 0;
}

int
extract_link_check(const char *link, const char *target, bool *ret_verify, struct err *e)
{
	char q[EXTRACT_QUOTE_LEN];
	bool below = false, verify = false; /* below: a name was seen, from here on text is no proof */
	long depth = 0;

	if (target[0] == '\0')
		return err_set(e, ERR_INVALID, "the link has no target");
	if (strlen(target) > EXTRACT_PATH_MAX - 1)
		return err_set(e, ERR_TOOBIG, "the link's target has %zu bytes", strlen(target));
	if (target[0] == '/')
		return err_set(e, ERR_INVALID, "the link's target %s is absolute", extract_quote(target, q));
	if (!utf8_valid(target))
		return err_set(e, ERR_INVALID, "the link's target %s is not UTF-8", extract_quote(target, q));
	for (; *link != '\0'; link++)
		depth += *link == '/';
	for (const char *s = target; *s != '\0';) {
		size_t len = strcspn(s, "/");

		if (len == 2 && s[0] == '.' && s[1] == '.') {
			verify |= below;
			if (--depth < 0)
				return err_set(e, ERR_INVALID, "the link's target %s is outside", extract_quote(target, q));
		} else if (len > 0 && !(len == 1 && s[0] == '.')) {
			below = true;
			depth++;
		}
		s += len;
		s += *s == '/';
	}
	*ret_verify = verify;
	return 0;
}
