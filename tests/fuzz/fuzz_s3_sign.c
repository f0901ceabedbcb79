/* Any key, query and header value is canonicalised into one line each, and the same whatever the order they came in. The input
 * is cut at NULs: key, then names and values in turn. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "storage/s3_sign.h"

#define PAIRS 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t
lines_of(const struct buf *b)
{
	size_t n = 0;

	for (size_t i = 0; i < b->len; i++)
		n += b->data[i] == '\n';
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct s3_credentials creds = {"key", "secret", NULL, "us-east-1"};
	struct buf a = buf_make(1u << 20), b = buf_make(1u << 20), target = buf_make(1u << 20);
	char *text = xstrndup((const char *)data, size), *all = xcalloc(1, size + 2 * PAIRS + 2), *p = all;
	struct s3_pair query[PAIRS], reverse[PAIRS];
	struct s3_to_sign r = {.method = "GET", .host = "h:9000", .path = text, .query = query, .n_query = PAIRS,
	    .payload = S3_UNSIGNED_PAYLOAD, .time_real_s = 1369353600};

	memcpy(all, data, size);
	for (size_t i = 0; i < PAIRS; i++) {
		query[i].name = p, p += strlen(p) + (p < all + size);
		query[i].value = p, p += strlen(p) + (p < all + size);
		reverse[PAIRS - 1 - i] = query[i];
	}
	if (size < 8192 && s3_canonical(&r, &a) == 0) {
		/* method, path, query, two headers, a blank one, their names, payload */
		assert(lines_of(&a) == 7);
		assert(s3_target(&r, &target) == 0 && strpbrk(target.data, " \"<>\n\r\t+*") == NULL);
		r.query = reverse;
		assert(s3_canonical(&r, &b) == 0 && a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
		buf_clear(&b);
		s3_sign(&creds, &r, &b);
		s3_presign(&creds, &r, 60, &b);
	}
	buf_release(&a);
	buf_release(&b);
	buf_release(&target);
	free(text);
	free(all);
	return 0;
}
