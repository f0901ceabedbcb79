#include "dispatcher/nomad_side.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "dispatcher/fleet.h"
#include "dispatcher/toolbox.h"

#define ENV_FILE_MAX (64 * 1024)
#define VERTICALS_MAX 256
#define ROLL_MARK_MS 15000 /* a roll marks its workers again and again; a dispatcher that ends leaves no mark */
#define ROLL_CONDEMNED_MS 120000 /* longer than the calls take that register a group */

static int
add_line(json_t *env, char *line, const char *file, unsigned number, struct err *e)
{
	char *equals = strchr(line, '=');

	if (line[0] == '\0' || line[0] == '#')
		return 0;
	if (equals == NULL || equals == line || !(isalpha((unsigned char)line[0]) || line[0] == '_'))
		return err_set(e, ERR_INVALID, "%s:%u: expected NAME=value", file, number);
	*equals = '\0';
	if (json_object_set_new(env, line, json_string(equals + 1)) != 0)
		return err_set(e, ERR_INVALID, "%s:%u: the value is not UTF-8", file, number);
	return 0;
}

static int
add_file(json_t *env, const char *file, struct err *e)
{
	struct buf b = buf_make(ENV_FILE_MAX);
	int rc = file_read(AT_FDCWD, file, &b, e);
	unsigned number = 0;
	char *rest = b.data, *line;

	while (rc == 0 && rest != NULL && (line = strsep(&rest, "\n")) != NULL)
		rc = add_line(env, line, file, ++number, e);
	buf_release(&b);
	return rc == 0 ? 0 : err_prefix(e, rc, "WORKER_ENV_FILE");
}

/* Where workers find this dispatcher when nobody said it: through Consul where it registers there, else where it listens. */
static const char *
own_address(const struct config *c, char *out, size_t len)
{
	bool registers = c->consul_register && c->consul.addr[0] != '\0';

	if (c->advertise[0] != '\0')
		return c->advertise;
	snprintf(out, len, "%s%s", registers ? "consul://" : "http://", registers ? "drover-dispatcher" : c->listen);
	return out;
}

int
nomad_worker_env(const struct config *c, json_t **ret, struct err *e)
{
	char own[300];
	const struct {
		const char *name, *value;
	} always[] = {
		{"DROVER_ADDR", own_address(c, own, sizeof(own))}, {"S3_ENDPOINT", c->store.endpoint}, {"S3_REGION", c->store.region},
		{"S3_BUCKET", c->store.targets}, {"S3_RESULTS_BUCKET", c->store.results}, {"S3_TOOLBOX_BUCKET", c->store.toolbox},
		{"STORE_DIR", c->store.dir}, {"CONSUL_HTTP_ADDR", c->consul.addr},
	};
	json_t *env = json_object();
	int rc = 0;

	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		if (always[i].value[0] != '\0')
			json_object_set_new(env, always[i].name, json_string(always[i].value));
	if (c->store.virtual_host)
		json_object_set_new(env, "S3_VIRTUAL_HOST", json_string("true"));
	if (c->worker_env_file[0] != '\0')
		rc = add_file(env, c->worker_env_file, e);
	if (rc == 0)
		*ret = env;
	else
		json_decref(env);
	return rc;
}

static bool
worker_in(void *arg, const char *alloc, int64_t began_real_ms, char why[CORE_CAUSE_MAX])
{
	const struct dispatcher *d = arg;
	const struct fleet_worker *w = fleet_in_alloc(d->fleet, alloc, began_real_ms);

	snprintf(why, CORE_CAUSE_MAX, "%s", w == NULL ? "" : w->health);
	return w != NULL;
}

struct allocs {
	char (*ids)[CORE_ALLOC_MAX];
	size_t n;
};

static void
add_alloc(struct allocs *a, const char *id)
{
	if (id[0] == '\0' || a->n == CORE_DRAINS_MAX)
		return;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->ids[i], id) == 0)
			return;
	a->ids = xrealloc(a->ids, (a->n + 1) * sizeof(*a->ids));
	snprintf(a->ids[a->n++], sizeof(*a->ids), "%s", id);
}

static void
add_worker(void *arg, const struct fleet_worker *w)
{
	add_alloc(arg, w->alloc_id);
}

/* Those who hold nothing any more are condemned: a dispatcher that comes after this one knows it, too, should the group be
 * registered by then. How many of them are not, yet. */
static size_t
condemn_group(struct dispatcher *d, const char *owner, const struct allocs *a, const struct core_drain_state *states)
{
	size_t left = 0;

	for (size_t i = 0; i < a->n; i += CORE_CONDEMN_MAX) {
		struct core_drain some = {.owner = owner, .allocs = (const char (*)[CORE_ALLOC_MAX])&a->ids[i], .vertical = "",
			.ttl_ms = ROLL_CONDEMNED_MS};
		size_t missing = 0;

		while (some.n < CORE_CONDEMN_MAX && i + some.n < a->n)
			missing += !states[i + some.n++].durable;
		if (missing > 0)
			core_condemn(d->core, clock_now(), 0, &some);
		left += missing;
	}
	return left;
}

static size_t
drain_group(void *arg, const char *job, const char (*allocs)[CORE_ALLOC_MAX], size_t n, bool last)
{
	struct dispatcher *d = arg;
	struct core_drain_state *states;
	struct allocs a = {.n = 0};
	char owner[CORE_OWNER_MAX];
	struct err e = {0};
	size_t left = 0;

	snprintf(owner, sizeof(owner), "roll %.*s", (int)sizeof(owner) - 6, job);
	for (size_t i = 0; i < n; i++)
		add_alloc(&a, allocs[i]);
	if (allocs != NULL) /* what Nomad has not told yet may have registered */
		fleet_of_job(d->fleet, job, add_worker, &a);
	states = xcalloc(a.n + 1, sizeof(*states));
	if (core_drain(d->core, clock_now(), &(struct core_drain){.owner = owner, .allocs = (const char (*)[CORE_ALLOC_MAX])a.ids, .n = a.n,
	    .ttl_ms = ROLL_MARK_MS}, states, &e) != 0)
		left = 1; /* too many marks: asked again */
	for (size_t i = 0; i < a.n; i++)
		left += states[i].leases + states[i].committing;
	if (left == 0 && last)
		left = condemn_group(d, owner, &a, states);
	free(states);
	free(a.ids);
	return left;
}

static const char *
no_group(void *arg, const char *vertical)
{
	const struct dispatcher *d = arg;

	return toolbox_no_group(d->toolbox, vertical);
}

/* Where warm workers show their health. */
static const char *
worker_service(const struct config *c)
{
	if (strcmp(c->worker_service, "auto") == 0)
		return c->consul.addr[0] != '\0' ? "consul" : "nomad";
	return strcmp(c->worker_service, "off") == 0 ? "" : c->worker_service;
}

/* The toolbox's verticals by the names of their folders: their parents in Nomad remember the ledger. */
static size_t
vertical_names(const struct config *c, char *names[VERTICALS_MAX])
{
	char path[4096];
	DIR *dir;
	struct dirent *entry;
	size_t n = 0;

	if (c->toolbox[0] == '\0' || file_join(path, sizeof(path), c->toolbox, "verticals", NULL) != 0 ||
	    (dir = opendir(path)) == NULL)
		return 0;
	while ((entry = readdir(dir)) != NULL && n < VERTICALS_MAX)
		if (vertical_name_valid(entry->d_name))
			names[n++] = xstrdup(entry->d_name);
	closedir(dir);
	return n;
}

static int
check_ledger(struct dispatcher *d, const struct cluster_config *cc, struct err *e)
{
	char *names[VERTICALS_MAX] = {NULL};
	size_t n;
	int rc;

	if (!d->ledger->empty || strcmp(d->config->new_ledger, "yes") == 0)
		return 0;
	n = vertical_names(d->config, names);
	rc = cluster_check_ledger(cc, (const char *const *)names, n, e);
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	if (rc == ERR_CONFLICT)
		err_hint(e, "mount the volume that holds the old ledger, or set DROVER_NEW_LEDGER=yes if it is lost");
	else if (rc != 0)
		log_warn("nomad", "whether it remembers another ledger could not be asked: %s", e->msg);
	return rc == ERR_CONFLICT ? rc : 0;
}

int
nomad_side_open(struct dispatcher *d, struct err *e)
{
	const struct config *c = d->config;
	struct cluster_config cc = {
		.loop = d->loop, .core = d->core, .nomad = nomad_settings_config(&c->nomad), .jobs_dir = c->jobs_dir, .ledger_uuid = d->ledger->uuid,
		.datacenters = c->datacenters, .driver = c->driver, .worker_command = c->worker_command,
		.cache_volume = c->cache_volume, .docker_network = c->docker_network, .job_prefix = c->job_prefix, .worker_service = worker_service(c),
		.start_limit_ms = c->start_limit_ms, .roll_limit_ms = c->roll_limit_ms, .worker_in = worker_in, .drain = drain_group,
		.no_group = no_group, .connections = (unsigned)c->nomad_connections,
		.reconcile_ms = c->reconcile_ms, .take_over = strcmp(c->new_ledger, "yes") == 0, .arg = d,
	};
	int rc;

	if (!config_nomad_on(c))
		return 0;
	if ((rc = nomad_worker_env(c, &d->worker_env, e)) != 0)
		return rc;
	cc.worker_env = d->worker_env;
	if ((rc = check_ledger(d, &cc, e)) != 0)
		return rc;
	d->cluster = cluster_new(&cc, e);
	return d->cluster == NULL ? e->code : 0;
}
