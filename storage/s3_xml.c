#include "storage/s3_xml.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/utf8.h"

#define MAX_DEPTH 16

/* --- the walk --- */

struct walk {
	const char *p, *end;
	char path[S3_XML_MAX_PATH];
	size_t path_len;
	size_t parent_len[MAX_DEPTH];  /* path_len outside of the open element */
	const char *start[MAX_DEPTH];  /* its '<' */
	unsigned depth;
	bool closed;                   /* the root has ended: only blanks and comments may follow */
	char text[S3_XML_MAX_TEXT + 1];
	size_t text_len;
	s3_xml_each *each;
	void *arg;
	struct err *e;
};

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool
at(const struct walk *w, const char *s)
{
	size_t n = strlen(s);

	return (size_t)(w->end - w->p) >= n && memcmp(w->p, s, n) == 0;
}

static int
broken(struct walk *w, const char *why)
{
	return err_set(w->e, ERR_PROTO, "the server's XML is broken: %s", why);
}

/* Moves behind the next occurrence of s; false if there is none. */
static bool
skip_past(struct walk *w, const char *s)
{
	const char *hit = memmem(w->p, (size_t)(w->end - w->p), s, strlen(s));

	if (hit == NULL)
		return false;
	w->p = hit + strlen(s);
	return true;
}

static int
add_text(struct walk *w, const char *s, size_t len)
{
	if (len > S3_XML_MAX_TEXT - w->text_len)
		return broken(w, "a text is too long");
	memcpy(w->text + w->text_len, s, len);
	w->text_len += len;
	return 0;
}

/* Encodes code as UTF-8; returns its length, 0 for what XML cannot hold. */
static size_t
utf8_put(uint32_t code, char out[4])
{
	static const struct {
		uint32_t below;
		unsigned char lead;
	} forms[] = {{0x80, 0x00}, {0x800, 0xc0}, {0x10000, 0xe0}, {0x110000, 0xf0}};
	size_t n = 0;

	if (code == 0 || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	while (n < 4 && code >= forms[n].below)
		n++;
	if (n == 4)
		return 0;
	for (size_t i = n; i > 0; i--, code >>= 6)
		out[i] = (char)(0x80 | (code & 0x3f));
	out[0] = (char)(forms[n].lead | code);
	return n + 1;
}

/* p is at '&'. */
static int
add_entity(struct walk *w)
{
	static const struct {
		const char *name;
		char c;
	} known[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
	const char *digits;
	uint32_t code = 0, base;
	char utf8[4];
	size_t n;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (!at(w, known[i].name))
			continue;
		w->p += strlen(known[i].name);
		return add_text(w, &known[i].c, 1);
	}
	if (!at(w, "&#"))
		return broken(w, "an unknown entity");
	base = at(w, "&#x") ? 16 : 10;
	w->p += base == 16 ? 3 : 2;
	digits = w->p;
	for (; w->p < w->end && *w->p != ';' && w->p - digits < 8; w->p++) {
		static const char set[] = "0123456789abcdef";
		const char *d = memchr(set, *w->p >= 'A' && *w->p <= 'F' ? *w->p - 'A' + 'a' : *w->p, base);

		if (d == NULL)
			return broken(w, "a bad character reference");
		code = code * base + (uint32_t)(d - set);
	}
	n = utf8_put(code, utf8);
	if (w->p == digits || !at(w, ";") || n == 0)
		return broken(w, "a bad character reference");
	w->p++;
	return add_text(w, utf8, n);
}

static int
close_element(struct walk *w)
{
	int rc;

	w->text[w->text_len] = '\0';
	w->depth--;
	rc = w->each(w->arg, w->path, w->text, w->start[w->depth], (size_t)(w->p - w->start[w->depth]));
	w->path_len = w->parent_len[w->depth];
	w->path[w->path_len] = '\0';
	w->text_len = 0;
	w->closed = w->depth == 0;
	return rc;
}

/* Reads a name and drops its namespace prefix. False if there is none. */
static bool
read_name(struct walk *w, const char **ret_name, size_t *ret_len)
{
	const char *name = w->p;

	for (; w->p < w->end && !is_blank(*w->p) && *w->p != '>' && *w->p != '/' && *w->p != '<' && *w->p != '='; w->p++)
		if (*w->p == ':')
			name = w->p + 1;
	*ret_name = name;
	*ret_len = (size_t)(w->p - name);
	/* '/' joins the path and NUL ends it, so neither may be in a name. */
	return *ret_len > 0 && memchr(name, '\0', *ret_len) == NULL;
}

/* p is behind '<' and the name: skips attributes up to and over '>'. */
static int
end_tag_open(struct walk *w, bool *ret_empty)
{
	char quote = '\0';

	for (*ret_empty = false; w->p < w->end; w->p++) {
		if (quote != '\0') {
			if (*w->p == quote)
				quote = '\0';
		} else if (*w->p == '"' || *w->p == '\'') {
			quote = *w->p;
		} else if (*w->p == '>') {
			*ret_empty = w->p[-1] == '/';
			w->p++;
			return 0;
		} else if (*w->p == '<') {
			break;
		}
	}
	return broken(w, "a tag without end");
}

static int
open_element(struct walk *w)
{
	const char *start = w->p++, *name;
	bool empty;
	size_t len;
	int rc;

	if (!read_name(w, &name, &len))
		return broken(w, "a tag without name");
	if (w->closed)
		return broken(w, "more than one root");
	if (w->depth == MAX_DEPTH || w->path_len + 1 + len >= sizeof(w->path))
		return broken(w, "nested too deep");
	w->start[w->depth] = start;
	w->parent_len[w->depth++] = w->path_len;
	if (w->path_len > 0)
		w->path[w->path_len++] = '/';
	memcpy(w->path + w->path_len, name, len);
	w->path_len += len;
	w->path[w->path_len] = '\0';
	w->text_len = 0;
	rc = end_tag_open(w, &empty);
	return rc == 0 && empty ? close_element(w) : rc;
}

static int
end_element(struct walk *w)
{
	const char *name;
	size_t len, open_at;

	w->p += 2;
	if (!read_name(w, &name, &len) || w->depth == 0)
		return broken(w, "a closing tag too many");
	open_at = w->parent_len[w->depth - 1];
	open_at += open_at > 0;
	if (w->path_len - open_at != len || memcmp(w->path + open_at, name, len) != 0)
		return broken(w, "a closing tag that does not match");
	while (w->p < w->end && is_blank(*w->p))
		w->p++;
	if (!at(w, ">"))
		return broken(w, "a tag without end");
	w->p++;
	return close_element(w);
}

static int
add_cdata(struct walk *w)
{
	const char *start = w->p + strlen("<![CDATA[");

	if (!skip_past(w, "]]>"))
		return broken(w, "CDATA without end");
	return w->depth == 0 ? broken(w, "text outside of the root") : add_text(w, start, (size_t)(w->p - 3 - start));
}

static int
markup(struct walk *w)
{
	if (at(w, "<!--"))
		return skip_past(w, "-->") ? 0 : broken(w, "a comment without end");
	if (at(w, "<?"))
		return skip_past(w, "?>") ? 0 : broken(w, "an instruction without end");
	if (at(w, "<![CDATA["))
		return add_cdata(w);
	if (at(w, "<!"))
		return broken(w, "a document type");
	return at(w, "</") ? end_element(w) : open_element(w);
}

/* Text up to the next '<' or '&'. Blanks outside of the root are fine: servers send them to keep a slow call alive. */
static int
plain_text(struct walk *w)
{
	const char *start = w->p;

	while (w->p < w->end && *w->p != '<' && *w->p != '&') {
		if (*w->p == '\0' || (w->depth == 0 && !is_blank(*w->p)))
			return broken(w, "text outside of the root");
		w->p++;
	}
	return w->depth == 0 ? 0 : add_text(w, start, (size_t)(w->p - start));
}

int
s3_xml_walk(const char *data, size_t len, s3_xml_each *each, void *arg, struct err *e)
{
	struct walk w = {.p = data, .end = data + len, .each = each, .arg = arg, .e = e};
	int rc = len > S3_XML_MAX_BYTES ? broken(&w, "too long") : 0;

	if (rc == 0 && at(&w, "\xef\xbb\xbf"))
		w.p += 3;
	while (rc == 0 && w.p < w.end) {
		if (*w.p == '<')
			rc = markup(&w);
		else if (*w.p == '&' && w.depth > 0)
			rc = add_entity(&w);
		else if (*w.p == '&')
			rc = broken(&w, "text outside of the root");
		else
			rc = plain_text(&w);
	}
	if (rc == 0 && !w.closed)
		rc = broken(&w, w.depth > 0 ? "it ends too early" : "it is empty");
	return rc;
}

void
s3_xml_escape(struct buf *b, const char *text)
{
	for (; *text != '\0'; text++) {
		switch (*text) {
		case '&': buf_adds(b, "&amp;"); break;
		case '<': buf_adds(b, "&lt;"); break;
		case '>': buf_adds(b, "&gt;"); break;
		case '"': buf_adds(b, "&quot;"); break;
		case '\r': buf_adds(b, "&#13;"); break;
		default: buf_addc(b, *text);
		}
	}
}

/* --- single values --- */

struct find {
	const char *path;
	char *out;
	size_t out_len;
	bool found, fits;
};

static int
find_each(void *arg, const char *path, const char *text, const char *raw, size_t raw_len)
{
	struct find *f = arg;

	(void)raw, (void)raw_len;
	if (!f->found && strcmp(path, f->path) == 0) {
		f->found = true;
		f->fits = strlen(text) < f->out_len;
		snprintf(f->out, f->out_len, "%s", text);
	}
	return 0;
}

int
s3_xml_find(const char *data, size_t len, const char *path, char *out, size_t out_len, struct err *e)
{
	struct find f = {.path = path, .out = out, .out_len = out_len, .fits = true};
	int rc;

	out[0] = '\0';
	rc = s3_xml_walk(data, len, find_each, &f, e);
	return rc == 0 && !f.fits ? err_set(e, ERR_PROTO, "the server's %s is too long", path) : rc;
}

static int
error_each(void *arg, const char *path, const char *text, const char *raw, size_t raw_len)
{
	struct s3_error *error = arg;

	(void)raw, (void)raw_len;
	if (strcmp(path, "Error/Code") == 0)
		snprintf(error->code, sizeof(error->code), "%s", text);
	if (strcmp(path, "Error/Message") == 0)
		snprintf(error->message, sizeof(error->message), "%.*s", (int)sizeof(error->message) - 1, text);
	return strcmp(path, "Error") == 0 ? 1 : 0;
}

bool
s3_xml_error(const char *data, size_t len, struct s3_error *ret_error)
{
	struct s3_error error = {.code = ""};

	if (s3_xml_walk(data, len, error_each, &error, NULL) != 1)
		return false;
	*ret_error = error;
	return true;
}

/* --- lists --- */

struct list {
	int (*each)(void *arg, const char *key, const struct object_info *info);
	void *arg;
	struct buf *token;
	struct err *e;
	bool truncated, encoded;
	char key[S3_XML_MAX_TEXT + 1];
	struct object_info info;
};

/* Decodes percent-encoding (and '+', which some servers write for a blank) in place. False if it is broken. */
static bool
url_decode(char *s)
{
	char *out = s;

	for (; *s != '\0'; s++) {
		int byte = *s == '%' ? percent_byte(s) : *s == '+' ? ' ' : (unsigned char)*s;

		if (byte <= 0)
			return false;
		s += *s == '%' ? 2 : 0;
		*out++ = (char)byte; /* in the same place */
	}
	*out = '\0';
	return true;
}

static int
list_entry(struct list *l)
{
	int rc = 0;

	if (l->key[0] == '\0' || (l->encoded && !url_decode(l->key)))
		return err_set(l->e, ERR_PROTO, "a key in the server's list cannot be read");
	/* What we would never store is somebody else's (a "directory" marker such as "a/"): not ours to show. */
	if (store_key_valid(l->key))
		rc = l->each(l->arg, l->key, &l->info);
	l->key[0] = '\0';
	memset(&l->info, 0, sizeof(l->info));
	return rc;
}

static int
list_each(void *arg, const char *path, const char *text, const char *raw, size_t raw_len)
{
	static const char contents[] = "ListBucketResult/Contents";
	struct list *l = arg;

	(void)raw, (void)raw_len;
	if (strcmp(path, "ListBucketResult/IsTruncated") == 0)
		l->truncated = strcmp(text, "true") == 0;
	if (strcmp(path, "ListBucketResult/NextContinuationToken") == 0 && buf_adds(l->token, text) != 0)
		return err_set(l->e, ERR_PROTO, "the server's continuation token is too long");
	if (strncmp(path, contents, strlen(contents)) != 0)
		return 0;
	path += strlen(contents);
	if (strcmp(path, "/Key") == 0)
		memcpy(l->key, text, strlen(text) + 1);
	else if (strcmp(path, "/ETag") == 0)
		snprintf(l->info.etag, sizeof(l->info.etag), "%.*s", (int)sizeof(l->info.etag) - 1, text);
	else if (strcmp(path, "/Size") == 0)
		return num_int(text, 0, INT64_MAX, &l->info.size_bytes, l->e) == 0 ? 0 : ERR_PROTO;
	else if (strcmp(path, "/LastModified") == 0)
		return clock_parse(text, &l->info.modified_real_ms, l->e) == 0 ? 0 : ERR_PROTO;
	return path[0] == '\0' ? list_entry(l) : 0;
}

int
s3_xml_list(const char *data, size_t len, int (*each)(void *arg, const char *key, const struct object_info *info),
    void *arg, struct buf *ret_token, struct err *e)
{
	struct list l = {.each = each, .arg = arg, .token = ret_token, .e = e};
	char encoding[16];
	int rc;

	buf_clear(ret_token);
	/* It may stand behind the keys, and some servers (versitygw) do not do as they were asked. */
	if ((rc = s3_xml_find(data, len, "ListBucketResult/EncodingType", encoding, sizeof(encoding), e)) != 0)
		return rc;
	l.encoded = strcmp(encoding, "url") == 0;
	rc = s3_xml_walk(data, len, list_each, &l, e);
	if (rc == 0 && l.truncated && ret_token->len == 0)
		rc = err_set(e, ERR_PROTO, "the server's list goes on but names no next page");
	if (rc == 0 && !l.truncated)
		buf_clear(ret_token);
	return rc;
}
