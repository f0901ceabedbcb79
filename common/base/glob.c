#include "base/glob.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define RULES_MAX 1000

/* A class "[…]" at p (after the bracket): sets *hit and returns what follows it, or NULL when it has no end. */
static const char *
match_class(const char *p, char c, bool *hit)
{
	bool negated = *p == '!' || *p == '^', found = false, first = true;

	if (negated)
		p++;
	for (; *p != '\0' && (first || *p != ']'); first = false) {
		char low = *p == '\\' && p[1] != '\0' ? *++p : *p;

		p++;
		if (*p == '-' && p[1] != ']' && p[1] != '\0') {
			found = found || ((unsigned char)c >= (unsigned char)low && (unsigned char)c <= (unsigned char)p[1]);
			p += 2;
		} else {
			found = found || c == low;
		}
	}
	if (*p != ']')
		return NULL;
	*hit = found != negated;
	return p + 1;
}

/* One component [s, s_end) against the pattern's component [p, p_end). Remembers one star, which is enough. */
static bool
match_component(const char *p, const char *p_end, const char *s, const char *s_end)
{
	const char *star = NULL, *retry = NULL;

	while (s < s_end) {
		const char *next = p;
		bool hit = false;

		if (p < p_end && *p == '*') {
			star = ++p;
			retry = s;
			continue;
		}
		if (p < p_end && *p == '?') {
			hit = true, next = p + 1;
		} else if (p < p_end && *p == '[' && (next = match_class(p + 1, *s, &hit)) != NULL && next <= p_end) {
			/* hit is set */
		} else if (p < p_end) {
			const char *literal = *p == '\\' && p + 1 < p_end ? p + 1 : p;

			hit = *literal == *s, next = literal + 1;
		}
		if (hit) {
			p = next, s++;
		} else if (star != NULL) {
			p = star, s = ++retry;
		} else {
			return false;
		}
	}
	while (p < p_end && *p == '*')
		p++;
	return p == p_end;
}

/* Components with "**" between: the same idea one level up. */
bool
glob_match(const char *pattern, const char *path)
{
	const char *p = pattern, *s = path, *star = NULL, *retry = NULL;

	for (;;) {
		const char *p_end = strchrnul(p, '/'), *s_end = strchrnul(s, '/');
		bool deep = p_end - p == 2 && p[0] == '*' && p[1] == '*';

		if (deep && *p_end == '\0')
			return *s != '\0'; /* a pattern that ends in two stars wants something below */
		if (deep) {
			star = p = p_end + 1;
			retry = s;
			continue;
		}
		if (*s != '\0' && *p != '\0' && match_component(p, p_end, s, s_end)) {
			if (*p_end == '\0' && *s_end == '\0')
				return true;
			if (*p_end != '\0' && *s_end != '\0') {
				p = p_end + 1, s = s_end + 1;
				continue;
			}
		}
		if (star == NULL || *retry == '\0' || *(s = strchrnul(retry, '/')) == '\0')
			return false;
		retry = ++s;
		p = star;
	}
}

struct rule {
	char *pattern;
	bool negated, dir_only, anchored;
};

struct ignore {
	struct rule *rules;
	size_t n;
};

/* One line without its newline. */
static void
add_rule(struct ignore *ig, const char *line, size_t len)
{
	struct rule r = {.negated = false};

	while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t' || line[len - 1] == '\r'))
		len--;
	if (len == 0 || line[0] == '#')
		return;
	if (line[0] == '!')
		r.negated = true, line++, len--;
	if (len > 0 && line[len - 1] == '/')
		r.dir_only = true, len--;
	r.anchored = memchr(line, '/', len) != NULL;
	if (len > 0 && line[0] == '/')
		line++, len--;
	if (len == 0)
		return;
	r.pattern = xstrndup(line, len);
	ig->rules[ig->n++] = r;
}

int
ignore_parse(const char *text, struct ignore **ret, struct err *e)
{
	struct ignore *ig = xcalloc(1, sizeof(*ig));

	ig->rules = xcalloc(RULES_MAX, sizeof(*ig->rules));
	for (size_t no = 1; *text != '\0'; no++) {
		const char *end = strchrnul(text, '\n');

		if (ig->n == RULES_MAX) {
			ignore_free(ig);
			return err_set(e, ERR_INVALID, "line %zu: more than %d rules", no, RULES_MAX);
		}
		add_rule(ig, text, (size_t)(end - text));
		text = *end != '\0' ? end + 1 : end;
	}
	*ret = ig;
	return 0;
}

void
ignore_free(struct ignore *ig)
{
	if (ig == NULL)
		return;
	for (size_t i = 0; i < ig->n; i++)
		free(ig->rules[i].pattern);
	free(ig->rules);
	free(ig);
}

bool
ignore_match(const struct ignore *ig, const char *path, bool dir)
{
	const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;

	for (size_t i = ig != NULL ? ig->n : 0; i-- > 0;) {
		const struct rule *r = &ig->rules[i];

		if (r->dir_only && !dir)
			continue;
		if (glob_match(r->pattern, r->anchored ? path : name))
			return !r->negated;
	}
	return false;
}
