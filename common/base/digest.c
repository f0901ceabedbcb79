#include "base/digest.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/log.h"
#include "base/mem.h"

struct sha256 {
	EVP_MD_CTX *ctx;
};

/* Fetched once: a fetch takes a lock and a search, which costs more than the digest of a short text. */
static pthread_once_t fetched = PTHREAD_ONCE_INIT;
static EVP_MD *sha256_md, *md5_md;

/* The library fails here only without memory or without the algorithm; neither can be handled. */
static void
must(bool ok, const char *what)
{
	if (ok)
		return;
	log_error(NULL, "%s is not available", what);
	abort();
}

static void
fetch(void)
{
	sha256_md = EVP_MD_fetch(NULL, "SHA256", NULL);
	md5_md = EVP_MD_fetch(NULL, "MD5", NULL);
	must(sha256_md != NULL, "SHA-256");
}

static const EVP_MD *
sha256_algorithm(void)
{
	pthread_once(&fetched, fetch);
	return sha256_md;
}

struct sha256 *
sha256_new(void)
{
	struct sha256 *s = xmalloc(sizeof(*s));

	s->ctx = EVP_MD_CTX_new();
	must(s->ctx != NULL && EVP_DigestInit_ex2(s->ctx, sha256_algorithm(), NULL) == 1, "SHA-256");
	return s;
}

void
sha256_add(struct sha256 *s, const void *data, size_t len)
{
	must(EVP_DigestUpdate(s->ctx, data, len) == 1, "SHA-256");
}

void
sha256_end(struct sha256 *s, uint8_t out[SHA256_LEN])
{
	must(EVP_DigestFinal_ex(s->ctx, out, NULL) == 1, "SHA-256");
	sha256_free(s);
}

void
sha256_free(struct sha256 *s)
{
	if (s == NULL)
		return;
	EVP_MD_CTX_free(s->ctx);
	free(s);
}

void
sha256_of(const void *data, size_t len, uint8_t out[SHA256_LEN])
{
	must(EVP_Digest(data, len, out, NULL, sha256_algorithm(), NULL) == 1, "SHA-256");
}

void
md5_of(const void *data, size_t len, uint8_t out[MD5_LEN])
{
	pthread_once(&fetched, fetch);
	must(md5_md != NULL && EVP_Digest(data, len, out, NULL, md5_md, NULL) == 1, "MD5");
}

void
hmac_sha256(const void *key, size_t key_len, const void *data, size_t len, uint8_t out[SHA256_LEN])
{
	assert(key_len <= INT_MAX);
	must(HMAC(sha256_algorithm(), key, (int)key_len, data, len, out, NULL) != NULL, "HMAC-SHA-256");
}

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

/* The value of a lower-case hex digit, or -1. */
static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool
hex_decode(const char *s, size_t len, uint8_t *out)
{
	for (size_t i = 0; i < 2 * len; i++) /* checked whole before anything is written; ends at a NUL as well */
		if (hex_digit(s[i]) < 0)
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
		must(n > 0, "the kernel's random generator");
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

bool
secret_equal(const void *a, const void *b, size_t len)
{
	return CRYPTO_memcmp(a, b, len) == 0;
}
