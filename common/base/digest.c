#include "base/digest.h"

#include <assert.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

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

bool
secret_equal(const void *a, const void *b, size_t len)
{
	return CRYPTO_memcmp(a, b, len) == 0;
}
