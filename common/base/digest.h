/* digest.h - digests, message authentication, random bytes and their texts (OpenSSL is visible here alone). Any thread. */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_LEN 32
#define SHA256_HEX_LEN 65 /* with NUL */
#define MD5_LEN 16

struct sha256; /* running digest, opaque */

/* Starts, feeds and ends a SHA-256. sha256_end writes 32 bytes and frees; sha256_free(NULL) is allowed. */
struct sha256 *sha256_new(void);
void sha256_add(struct sha256 *s, const void *data, size_t len);
void sha256_end(struct sha256 *s, uint8_t out[SHA256_LEN]);
void sha256_free(struct sha256 *s);

/* Digests of one piece of memory. */
void sha256_of(const void *data, size_t len, uint8_t out[SHA256_LEN]);
void md5_of(const void *data, size_t len, uint8_t out[MD5_LEN]);
void hmac_sha256(const void *key, size_t key_len, const void *data, size_t len, uint8_t out[SHA256_LEN]);

/* Lower-case hex with NUL; out has room for 2 * len + 1. Returns out. */
char *hex_encode(const void *data, size_t len, char *out);

/* True if s is exactly len * 2 lower-case hex digits; then out is filled (may be NULL to only check). */
bool hex_decode(const char *s, size_t len, uint8_t *out);

/* The value of a hex digit of either case, or -1. */
int hex_digit(char c);

/* Standard base64 with padding and NUL; out has room for 4 * ((len + 2) / 3) + 1. Returns out. */
char *base64_encode(const void *data, size_t len, char *out);

/* Decodes standard base64 into out (room for 3 * strlen / 4). Returns the length or -1. */
long base64_decode(const char *s, uint8_t *out);

/* Fills with bytes of the kernel's generator; aborts if there is none. */
void random_bytes(void *out, size_t len);

/* A random version 4 UUID in text, 36 characters and NUL. */
void uuid_text(char out[37]);

/* Compares in time that depends on len alone. */
bool secret_equal(const void *a, const void *b, size_t len);

#endif
