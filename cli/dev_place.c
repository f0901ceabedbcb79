#include "cli/dev_place.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/num.h"

#define LISTEN "127.0.0.1:8700"

static int
find_bin(struct dev_place *p, struct err *e)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (n <= 0)
		return err_set(e, ERR_IO, "/proc/self/exe: %s", strerror(errno));
	path[n] = '\0';
	p->bin = xstrdup(dirname(path));
	return 0;
}

static bool
is_toolbox(const char *path)
{
	char *workflows = xasprintf("%s/workflows", path);
	bool there = access(workflows, R_OK | X_OK) == 0;

	free(workflows);
	return there;
}

/* As told; else where `make install` puts it, or where a checkout has it. */
static int
find_toolbox(const struct cli *c, struct dev_place *p, struct err *e)
{
	static const char *const places[] = {"../share/drover/toolbox", "../../toolbox", "../../../toolbox"};
	const char *told = args_value(&c->args, "toolbox");

	if (told == NULL && c->settings.toolbox[0] != '\0')
		told = c->settings.toolbox;
	for (size_t i = 0; told == NULL && i < sizeof(places) / sizeof(places[0]); i++) {
		char *path = xasprintf("%s/%s", p->bin, places[i]);

		if (is_toolbox(path) && (p->toolbox = realpath(path, NULL)) != NULL) {
			free(path);
			return 0;
		}
		free(path);
	}
	if (told != NULL && is_toolbox(told) && (p->toolbox = realpath(told, NULL)) != NULL)
		return 0;
	(void)err_set(e, ERR_NOTFOUND, told != NULL ? "%.200s is no toolbox: it has no folder workflows/" : "no toolbox was found%s",
	    told != NULL ? told : "");
	(void)err_hint(e, "-toolbox DIR, a folder with verticals/ and workflows/");
	return ERR_NOTFOUND;
}

/*
 * Fills in a free port where 0 was asked for, and refuses one that is taken: the workers would serve whoever listens there.
 * It may still be taken before the dispatcher is there; then that says so.
 */
static int
choose_port(char **listen_at, struct err *e)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t len = sizeof(at);
	char *colon = strrchr(*listen_at, ':');
	int fd, rc = 0, one = 1;
	int64_t port;

	if (colon == NULL || num_int(colon + 1, 0, UINT16_MAX, &port, NULL) != 0)
		return 0; /* the dispatcher says what is wrong with it */
	*colon = '\0';
	at.sin_port = htons((uint16_t)port);
	if (inet_pton(AF_INET, *listen_at, &at.sin_addr) != 1) {
		rc = port == 0 ? err_set(e, ERR_INVALID, "-listen: '%.64s' is no IPv4 address", *listen_at) : 0;
		*colon = ':';
		return rc;
	}
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0 || getsockname(fd, (struct sockaddr *)&at, &len) != 0) {
		rc = err_set(e, ERR_IO, "-listen %.64s:%d: %s", *listen_at, (int)port, strerror(errno));
		(void)err_hint(e, "-listen 127.0.0.1:0 takes any free port");
	}
	if (fd >= 0)
		close(fd);
	if (rc == 0) {
		char *whole = xasprintf("%s:%u", *listen_at, ntohs(at.sin_port));

		free(*listen_at);
		*listen_at = whole;
	}
	return rc;
}

static int
find_dir(const struct cli *c, struct dev_place *p, struct err *e)
{
	const char *told = args_value(&c->args, "data-dir");
	char temp[PATH_MAX];
	char *made;
	int rc;

	p->ephemeral = args_has(&c->args, "ephemeral");
	if (p->ephemeral && told != NULL)
		return err_set(e, ERR_INVALID, "-ephemeral does not go with -data-dir");
	if (p->ephemeral) {
		rc = file_temp_dir("drover-dev", temp, sizeof(temp), e);
		if (rc == 0)
			p->dir = xstrdup(temp);
		return rc;
	}
	if (told == NULL && c->settings.data_home[0] == '\0' && c->settings.home[0] == '\0')
		return err_set(e, ERR_INVALID, "HOME is not set: -data-dir DIR or -ephemeral");
	made = told != NULL ? xstrdup(told)
	    : c->settings.data_home[0] != '\0' ? xasprintf("%s/drover/dev", c->settings.data_home)
	                                       : xasprintf("%s/.local/share/drover/dev", c->settings.home);
	if ((rc = file_mkdirs(made, 0700, e)) == 0 && (p->dir = realpath(made, NULL)) == NULL)
		rc = err_set(e, ERR_IO, "%.200s: %s", made, strerror(errno));
	free(made);
	return rc;
}

static int
make_folders(struct dev_place *p, struct err *e)
{
	const struct {
		char **path;
		const char *name;
	} folders[] = {{&p->data, "data"}, {&p->store, "store"}, {&p->cache, "cache"}, {&p->logs, "logs"}};
	char *lock = xasprintf("%s/lock", p->dir);
	int rc = 0;

	p->lock = file_lock(lock, e);
	free(lock);
	if (p->lock == ERR_CONFLICT) {
		(void)err_set(e, ERR_CONFLICT, "another `drover dev` uses %.200s", p->dir);
		return err_hint(e, "stop it, or give this one a directory of its own: -data-dir DIR or -ephemeral");
	}
	if (p->lock < 0)
		return p->lock;
	for (size_t i = 0; rc == 0 && i < sizeof(folders) / sizeof(folders[0]); i++) {
		*folders[i].path = xasprintf("%s/%s", p->dir, folders[i].name);
		rc = file_mkdirs(*folders[i].path, 0700, e);
	}
	return rc;
}

int
dev_place_take(const struct cli *c, struct dev_place *p, struct err *e)
{
	const char *told = args_value(&c->args, "listen");
	int rc;

	*p = (struct dev_place){.lock = -1, .listen = xstrdup(told != NULL ? told : LISTEN)};
	/* The port comes last: who starts it twice is told of the other one, and not to take another port. */
	if ((rc = find_bin(p, e)) != 0 || (rc = find_toolbox(c, p, e)) != 0 || (rc = find_dir(c, p, e)) != 0 ||
	    (rc = make_folders(p, e)) != 0 || (rc = choose_port(&p->listen, e)) != 0)
		return rc;
	p->url = xasprintf("http://%s", p->listen);
	return 0;
}

void
dev_place_release(struct dev_place *p)
{
	struct err e = {0};

	if (p->ephemeral && p->dir != NULL && file_remove_tree(AT_FDCWD, p->dir, &e) != 0)
		fprintf(stderr, "%s could not be removed: %s\n", p->dir, e.msg);
	if (p->lock >= 0)
		close(p->lock);
	free(p->dir);
	free(p->data);
	free(p->store);
	free(p->cache);
	free(p->logs);
	free(p->bin);
	free(p->toolbox);
	free(p->listen);
	free(p->url);
}
