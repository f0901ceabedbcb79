#include "worker/caps_memo.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "worker/cgroup.h"

#define MEMO "sandbox.json"
#define MEMO_MAX 4096
#define MEMO_AGE_S 600

/* Adds what the lines of a file say that begin with `prefix`; a file that is not there says nothing. */
static void
add_lines(struct sha256 *s, const char *path, const char *prefix)
{
	struct buf b = buf_make(64 * 1024);
	char *rest, *line;

	if (file_read(AT_FDCWD, path, &b, NULL) == 0) {
		rest = b.data;
		while ((line = strsep(&rest, "\n")) != NULL)
			if (strncmp(line, prefix, strlen(prefix)) == 0)
				sha256_add(s, line, strlen(line) + 1);
	}
	sha256_add(s, "", 1);
	buf_release(&b);
}

static void
add_file_identity(struct sha256 *s, const char *path)
{
	char line[160] = "";
	struct stat st;

	if (stat(path, &st) == 0)
		(void)snprintf(line, sizeof(line), "%lld %lld %lld %lld.%09ld", (long long)st.st_dev, (long long)st.st_ino,
		    (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	sha256_add(s, line, strlen(line) + 1);
}

static void
make_key(int cgroup, char out[SHA256_HEX_LEN])
{
	static const char *const rights[] = {"Uid:", "Gid:", "CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp"};
	static const char *const files[] = {"/proc/sys/kernel/random/boot_id", "/proc/self/attr/current",
	    "/proc/sys/user/max_user_namespaces", "/proc/sys/kernel/unprivileged_userns_clone",
	    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"};
	struct sha256 *s = sha256_new();
	uint8_t digest[SHA256_LEN];
	struct stat st = {0};

	for (size_t i = 0; i < sizeof(rights) / sizeof(rights[0]); i++)
		add_lines(s, "/proc/self/status", rights[i]);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		add_lines(s, files[i], "");
	add_file_identity(s, "/proc/self/exe");
	(void)stat("/proc/self/ns/user", &st);
	sha256_add(s, &st.st_ino, sizeof(st.st_ino));
	sha256_add(s, &cgroup, sizeof(cgroup));
	sha256_end(s, digest);
	hex_encode(digest, sizeof(digest), out);
}

static bool
is_fresh(const char *path)
{
	struct stat st;
	int64_t age_s = stat(path, &st) == 0 ? clock_real_ms() / 1000 - (int64_t)st.st_mtim.tv_sec : -1;

	return age_s >= 0 && age_s < MEMO_AGE_S;
}

static bool
recall(const char *path, const char *key, struct sandbox_caps *c)
{
	struct buf b = buf_make(MEMO_MAX);
	const char *found = "", *why = "";
	int rung = 0, seccomp = 0, netns = 0;
	json_t *memo = NULL;
	bool good = false;

	if (is_fresh(path) && file_read(AT_FDCWD, path, &b, NULL) == 0)
		memo = json_loadb(buf_str(&b), b.len, 0, NULL);
	if (memo != NULL && json_unpack(memo, "{s:s, s:i, s:i, s:b, s:b, s:s}", "key", &found, "rung", &rung, "landlock",
	    &c->landlock_abi, "seccomp", &seccomp, "netns", &netns, "why", &why) == 0)
		good = strcmp(found, key) == 0 && rung > RUNG_NONE && rung <= RUNG_ROOT;
	if (good) {
		c->rung = (enum sandbox_rung)rung;
		c->seccomp = seccomp != 0;
		c->netns = netns != 0;
		(void)snprintf(c->why, sizeof(c->why), "%s", why);
	}
	json_decref(memo);
	buf_release(&b);
	return good;
}

/* Best effort: without it the next worker tries for itself. */
static void
remember(const char *cache_dir, const char *key, const struct sandbox_caps *c)
{
	json_t *memo = json_pack("{s:s, s:i, s:i, s:b, s:b, s:s}", "key", key, "rung", (int)c->rung, "landlock", c->landlock_abi,
	    "seccomp", c->seccomp, "netns", c->netns, "why", c->why);
	char *text = memo != NULL ? json_dumps(memo, JSON_COMPACT) : NULL;
	int dir = open(cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (text != NULL && dir >= 0)
		(void)file_replace(dir, MEMO, text, strlen(text), 0600, NULL);
	if (dir >= 0)
		close(dir);
	free(text);
	json_decref(memo);
}

bool
caps_find(const char *cache_dir, struct sandbox_caps *ret)
{
	struct sandbox_caps c = {.cgroup = cgroup_probe()};
	char key[SHA256_HEX_LEN], path[PATH_MAX];

	cgroup_sweep(c.cgroup);
	make_key(c.cgroup, key);
	if (file_join(path, sizeof(path), cache_dir, MEMO, NULL) == 0 && recall(path, key, &c)) {
		*ret = c;
		return true;
	}
	sandbox_probe(ret);
	if (ret->rung != RUNG_NONE)
		remember(cache_dir, key, ret);
	return false;
}
