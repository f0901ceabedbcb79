#include "cli/target.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/num.h"
#include "cli/interrupt.h"
#include "cli/render.h"
#include "cli/text.h"
#include "net/http_client.h"
#include "storage/pack.h"

#define PACK_MAX_BYTES (INT64_C(1) << 42)
#define PACK_MAX_ENTRIES 5000000
#define LEFT_OUT_SHOWN 10
#define PIECE (256 * 1024)
#define NAME_MAX_BYTES (TARGET_NAME_MAX - 16) /* the ending comes behind it */

struct source {
	struct cli *c;
	struct live *live;
	int fd;              /* the bytes, at their beginning */
	int64_t size_bytes, done_bytes;
	int64_t started_mono_ms;
	struct sha256 *digest;
	char hex[SHA256_HEX_LEN];
	const char *name;
	const char *verb;    /* "packing" */
	int64_t left_out;
	struct err write_err;
};

bool
target_name_is_archive(const char *name)
{
	static const char *const endings[] = {".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz", ".txz", ".tar.bz2",
		".tbz2", ".zip"};
	size_t len = strlen(name);

	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		size_t n = strlen(endings[i]);

		if (len > n && strcasecmp(name + len - n, endings[i]) == 0)
			return true;
	}
	return false;
}

static void
show_progress(struct source *s, int64_t total)
{
	struct buf b = buf_make(4096);
	char what[TARGET_NAME_MAX + 16];
	char *safe;

	if (s->live == NULL)
		return;
	snprintf(what, sizeof(what), "%s %s", s->verb, s->name);
	safe = text_safe(what);
	render_progress(&b, safe, s->done_bytes, total, clock_mono_ms() - s->started_mono_ms, terminal_err_width());
	live_set(s->live, buf_str(&b));
	free(safe);
	buf_release(&b);
}

static void
left_out(void *arg, const char *path, const char *why)
{
	struct source *s = arg;
	char *safe;

	if (s->left_out++ >= LEFT_OUT_SHOWN)
		return;
	safe = text_safe(path);
	live_say(s->live, "left out: %s (%s)", safe, why);
	free(safe);
}

static int
write_piece(void *arg, const void *data, size_t len)
{
	struct source *s = arg;
	int rc = file_write_all(s->fd, data, len, &s->write_err);

	sha256_add(s->digest, data, len);
	s->done_bytes += (int64_t)len;
	show_progress(s, 0);
	return rc;
}

/* An open file without a name. */
static int
temp_file(struct err *e)
{
	char dir[PATH_MAX], path[PATH_MAX + 8];
	int fd = -1, rc = file_temp_dir("drover-pack", dir, sizeof(dir), e);

	if (rc != 0)
		return rc;
	snprintf(path, sizeof(path), "%s/target", dir);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		fd = err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
	(void)file_remove_tree(AT_FDCWD, dir, NULL);
	return fd;
}

static void
end_digest(struct source *s)
{
	uint8_t hash[SHA256_LEN];

	sha256_end(s->digest, hash);
	s->digest = NULL;
	hex_encode(hash, SHA256_LEN, s->hex);
}

static int
pack_directory(struct source *s, const char *dir, struct err *e)
{
	struct pack_options o = {.max_bytes = PACK_MAX_BYTES, .max_entries = PACK_MAX_ENTRIES, .left_out = left_out, .arg = s,
		.stop = interrupt_flag()};
	struct pack_result r = {0};
	char in[32], out[32];
	int rc;

	if ((s->fd = temp_file(e)) < 0)
		return s->fd;
	s->verb = "packing";
	s->digest = sha256_new();
	rc = pack_tree(dir, &o, write_piece, s, &r, e);
	if (rc != 0) {
		if (s->write_err.code != 0 && e != NULL)
			*e = s->write_err;
		return rc;
	}
	end_digest(s);
	s->size_bytes = s->done_bytes;
	if (s->left_out > LEFT_OUT_SHOWN)
		live_say(s->live, "left out: %lld more", (long long)(s->left_out - LEFT_OUT_SHOWN));
	if (!s->c->settings.json)
		live_say(s->live, "Packed %lld %s, %s in %s%s", (long long)r.entries, r.entries == 1 ? "entry" : "entries",
		    num_format_size(r.bytes, in, sizeof(in)), num_format_size(s->size_bytes, out, sizeof(out)),
		    r.ignored > 0 ? " (some left out by .droverignore)" : "");
	return 0;
}

static int
digest_file(struct source *s, const char *path, struct err *e)
{
	char *piece;
	ssize_t n = 0;
	struct stat st;

	s->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (s->fd < 0 || fstat(s->fd, &st) != 0)
		return err_set(e, ERR_IO, "%.200s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_INVALID, "%.200s is neither a directory nor a plain file", path);
	if (st.st_size == 0)
		return err_set(e, ERR_INVALID, "%.200s is empty", path);
	s->verb = "digesting";
	s->digest = sha256_new();
	piece = xmalloc(PIECE);
	while (!interrupted() && (n = read(s->fd, piece, PIECE)) > 0) {
		sha256_add(s->digest, piece, (size_t)n);
		s->done_bytes += n;
		show_progress(s, st.st_size);
	}
	free(piece);
	if (interrupted())
		return err_set(e, ERR_CANCELED, "interrupted");
	if (n < 0)
		return err_set(e, ERR_IO, "%.200s: %s", path, strerror(errno));
	end_digest(s);
	s->size_bytes = s->done_bytes;
	return 0;
}

static int
is_known(struct source *s, json_t **ret, struct err *e)
{
	json_t *body = json_pack("{s:s, s:I}", "sha256", s->hex, "size_bytes", (json_int_t)s->size_bytes);
	struct api_call call = {.method = "POST", .path = "/v1/targets/lookup", .body = body};
	int rc = api_do(s->c->api, &call, e);

	if (rc == 0)
		*ret = json_incref(json_object_get(call.answer, "target"));
	json_decref(call.answer);
	json_decref(body);
	return rc;
}

static long
read_piece(void *arg, void *out, size_t len)
{
	struct source *s = arg;
	ssize_t n;

	do
		n = read(s->fd, out, len);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		s->done_bytes += n;
	show_progress(s, s->size_bytes);
	return n;
}

static int
upload(struct source *s, json_t **ret, struct err *e)
{
	char digest[SHA256_HEX_LEN + 24];
	struct buf name = buf_make(1024);
	const char *headers[] = {digest, NULL, "Content-Type: application/octet-stream", NULL};
	struct api_call call = {.method = "PUT", .path = "/v1/targets", .headers = headers, .read_fn = read_piece,
		.body_size = s->size_bytes, .arg = s};
	int rc;

	buf_adds(&name, "X-Drover-Filename: ");
	(void)http_encode(&name, s->name, false);
	snprintf(digest, sizeof(digest), "X-Drover-Sha256: %s", s->hex);
	headers[1] = buf_str(&name);
	s->verb = "uploading";
	s->done_bytes = 0;
	s->started_mono_ms = clock_mono_ms();
	if (lseek(s->fd, 0, SEEK_SET) != 0)
		rc = err_set(e, ERR_IO, "reading the target again: %s", strerror(errno));
	else
		rc = api_do(s->c->api, &call, e);
	if (rc == 0)
		*ret = json_incref(json_object_get(call.answer, "target"));
	json_decref(call.answer);
	buf_release(&name);
	return rc;
}

/* Packs or digests, asks, sends. */
static int
bring_bytes(struct source *s, const char *path, bool dir, json_t **ret, struct err *e)
{
	char size[32];
	int rc = dir ? pack_directory(s, path, e) : digest_file(s, path, e);

	if (rc == 0)
		rc = is_known(s, ret, e);
	else
		return rc;
	if (rc == 0 && !s->c->settings.json)
		live_say(s->live, "The dispatcher has this content already: nothing to send");
	if (rc != ERR_NOTFOUND)
		return rc;
	if (e != NULL)
		*e = (struct err){0};
	rc = upload(s, ret, e);
	if (rc == 0 && !s->c->settings.json)
		live_say(s->live, "Uploaded %s", num_format_size(s->size_bytes, size, sizeof(size)));
	return rc;
}

static int
find_stored(struct cli *c, const char *id, json_t **ret, struct err *e)
{
	struct buf path = buf_make(1024);
	json_t *answer = NULL;
	int rc = api_get(c->api, api_path(&path, "/v1/target/", id, ""), &answer, e);

	if (rc == 0)
		*ret = json_incref(json_object_get(answer, "target"));
	json_decref(answer);
	buf_release(&path);
	return rc;
}

/* Whether a word that names no file may be a target's id: at least four hex digits and dashes. */
static bool
may_be_id(const char *what)
{
	size_t len = strlen(what);

	return len >= 4 && len <= 36 && strspn(what, "0123456789abcdefABCDEF-") == len;
}

/* The last component of the path, also of "." and "dir/". */
static void
take_name(struct target *t)
{
	char *real = realpath(t->what, NULL), *copy = xstrdup(real != NULL ? real : t->what);
	const char *base = basename(copy);

	snprintf(t->name, sizeof(t->name), "%.*s%s", NAME_MAX_BYTES, strcmp(base, "/") == 0 ? "root" : base, t->dir ? ".tar.zst" : "");
	free(copy);
	free(real);
}

int
target_look(const char *what, const char *kind, struct target *ret, struct err *e)
{
	struct stat st;

	*ret = (struct target){.what = what, .kind = kind};
	if (stat(what, &st) != 0) {
		ret->stored = true;
		if (may_be_id(what))
			return 0;
		(void)err_set(e, ERR_NOTFOUND, "%.200s: %s", what, strerror(errno));
		(void)err_hint(e, "a directory, a file, or the id of a stored target (drover targets)");
		return ERR_NOTFOUND;
	}
	ret->dir = S_ISDIR(st.st_mode);
	if (ret->dir && strcmp(kind, "file") == 0)
		return err_set(e, ERR_INVALID, "%.200s is a directory; a single file is wanted", what);
	take_name(ret);
	if (kind[0] == '\0')
		ret->kind = ret->dir || target_name_is_archive(ret->name) ? "tree" : "file";
	return 0;
}

int
target_bring(struct cli *c, const struct target *t, json_t **ret, struct err *e)
{
	struct source s = {.c = c, .fd = -1, .name = t->name, .started_mono_ms = clock_mono_ms()};
	const char *name = t->name, *kind = t->kind;
	json_t *target = NULL;
	int rc;

	if (t->stored) {
		rc = find_stored(c, t->what, &target, e);
		name = json_text(target, "filename");
		if (kind[0] == '\0')
			kind = target_name_is_archive(name) ? "tree" : "file";
	} else {
		s.live = live_start(&c->term, !c->settings.json);
		rc = bring_bytes(&s, t->what, t->dir, &target, e);
		live_stop(s.live);
	}
	if (rc == 0) {
		*ret = json_pack("{s:s, s:s, s:s}", "id", json_text(target, "id"), "name", name, "kind", kind);
		if (*ret == NULL)
			rc = err_set(e, ERR_INVALID, "the name of the target is not UTF-8");
	}
	json_decref(target);
	if (s.fd >= 0)
		close(s.fd);
	sha256_free(s.digest);
	return rc;
}
