/* Symbolic links of an archive: kept until all files are there, so that nothing is ever written through one. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "storage/extract_parts.h"

struct later {
	char *path, *target;
	bool verify;
};

struct extract_links {
	struct later *links;
	size_t n, cap;
	int64_t bytes; /* of all texts */
};

struct extract_links *
extract_links_new(void)
{
	return xcalloc(1, sizeof(struct extract_links));
}

void
extract_links_free(struct extract_links *k)
{
	if (k == NULL)
		return;
	for (size_t i = 0; i < k->n; i++) {
		free(k->links[i].path);
		free(k->links[i].target);
	}
	free(k->links);
	free(k);
}

int
extract_links_keep(struct extract_links *k, const char *path, const char *target, int64_t max_bytes, struct err *e)
{
	struct later l = {0};
	int rc;

	if ((rc = extract_link_check(path, target, &l.verify, e)) != 0)
		return rc;
	k->bytes += (int64_t)(strlen(path) + strlen(target) + sizeof(l));
	if (k->bytes > max_bytes)
		return err_set(e, ERR_TOOBIG, "the links' names together have more than %lld bytes", (long long)max_bytes);
	if (k->n == k->cap) {
		k->cap = k->cap > 0 ? 2 * k->cap : 64;
		k->links = xrealloc(k->links, k->cap * sizeof(*k->links));
	}
	l.path = xstrdup(path);
	l.target = xstrdup(target);
	k->links[k->n++] = l;
	return 0;
}

/* Makes the links whose text is proof, or the others, each of which must lead inside at once. */
static int
make_some(const struct extract_links *k, bool verify, struct extract_tree *t, int64_t own_dirs, struct extract_count *c,
    const char **ret_path, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; i < k->n && rc == 0; i++) {
		const struct later *l = &k->links[i];

		if (l->verify != verify)
			continue;
		*ret_path = l->path;
		rc = extract_tree_symlink(t, l->path, l->target, e);
		if (rc == 0)
			rc = extract_tree_count_dirs(t, own_dirs, c, e);
		if (rc == 0 && verify)
			rc = extract_tree_verify(t, l->path, e);
	}
	return rc;
}

int
extract_links_make(const struct extract_links *k, struct extract_tree *t, int64_t own_dirs, struct extract_count *c,
    const char **ret_path, struct err *e)
{
	int rc = make_some(k, false, t, own_dirs, c, ret_path, e);

	return rc == 0 ? make_some(k, true, t, own_dirs, c, ret_path, e) : rc;
}
