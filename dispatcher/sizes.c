/* sizes.c - whether a job that has no room would have it on an empty node: Nomad says "exhausted" of nodes that are busy and of
 * nodes that are too small alike.
 *
 * Asked only when something has no place. The nodes are read once for all that ask within a while. Every node that Nomad
 * remembers counts, also one that is down or not eligible: it may come back, and then the job runs.
 */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "dispatcher/cluster_priv.h"

#define FRESH_MS 10000
#define NODES_MAX 20000 /* with more of them nothing is said */

static int64_t
field(const json_t *resources, const char *kind, const char *name)
{
	return json_integer_value(json_object_get(json_object_get(resources, kind), name));
}

bool
node_size_read(const json_t *node, struct node_size *ret)
{
	const json_t *all = json_object_get(node, "NodeResources"), *kept = json_object_get(node, "ReservedResources");
	const char *dc = json_string_value(json_object_get(node, "Datacenter"));
	const char *pool = json_string_value(json_object_get(node, "NodePool"));
	const char *driver;
	json_t *d;
	size_t len = 1;

	*ret = (struct node_size){.drivers = ","};
	if (dc == NULL || pool == NULL || !json_is_object(all))
		return false;
	ret->size[SIZE_CPU] = field(all, "Cpu", "CpuShares") - field(kept, "Cpu", "CpuShares");
	ret->size[SIZE_MEMORY] = field(all, "Memory", "MemoryMB") - field(kept, "Memory", "MemoryMB");
	ret->size[SIZE_DISK] = field(all, "Disk", "DiskMB") - field(kept, "Disk", "DiskMB");
	if (snprintf(ret->datacenter, sizeof(ret->datacenter), "%s", dc) >= (int)sizeof(ret->datacenter) ||
	    snprintf(ret->pool, sizeof(ret->pool), "%s", pool) >= (int)sizeof(ret->pool))
		return false;
	json_object_foreach(json_object_get(node, "Drivers"), driver, d) {
		if (!json_is_true(json_object_get(d, "Detected")))
			continue;
		if (len + strlen(driver) + 2 > sizeof(ret->drivers))
			return false;
		len += (size_t)snprintf(ret->drivers + len, sizeof(ret->drivers) - len, "%s,", driver);
	}
	return true;
}

/* Whether the job may be placed there at all. */
static bool
eligible(const json_t *job, const json_t *task, const struct node_size *node)
{
	const char *pool = json_string_value(json_object_get(job, "NodePool"));
	const char *driver = json_string_value(json_object_get(task, "Driver"));
	const json_t *dcs = json_object_get(job, "Datacenters");
	char word[80];
	bool in = false;

	for (size_t i = 0; i < json_array_size(dcs) && !in; i++) {
		const char *glob = json_string_value(json_array_get(dcs, i));

		in = glob != NULL && fnmatch(glob, node->datacenter, 0) == 0;
	}
	if (!in || pool == NULL || (strcmp(pool, "all") != 0 && strcmp(pool, node->pool) != 0))
		return false;
	snprintf(word, sizeof(word), ",%.70s,", driver != NULL ? driver : "");
	return strstr(node->drivers, word) != NULL;
}

bool
size_judge(const json_t *job, const struct node_size *nodes, size_t n, char why[CORE_CAUSE_MAX])
{
	static const char *const units[SIZES] = {[SIZE_CPU] = "MHz of cpu", [SIZE_MEMORY] = "MB of memory", [SIZE_DISK] = "MB of disk"};
	const json_t *group = json_array_get(json_object_get(job, "TaskGroups"), 0);
	const json_t *task = json_array_get(json_object_get(group, "Tasks"), 0);
	const json_t *r = json_object_get(task, "Resources");
	const int64_t want[SIZES] = {
		[SIZE_CPU] = json_integer_value(json_object_get(r, "CPU")),
		[SIZE_MEMORY] = json_integer_value(json_object_get(r, "MemoryMB")),
		[SIZE_DISK] = json_integer_value(json_object_get(json_object_get(group, "EphemeralDisk"), "SizeMB")),
	};
	int64_t largest[SIZES] = {0};
	size_t seen = 0;

	for (size_t i = 0; i < n; i++) {
		bool fits = true;

		if (!eligible(job, task, &nodes[i]))
			continue;
		seen++;
		for (size_t k = 0; k < SIZES; k++) {
			fits = fits && nodes[i].size[k] >= want[k];
			largest[k] = nodes[i].size[k] > largest[k] ? nodes[i].size[k] : largest[k];
		}
		if (fits)
			return false;
	}
	if (seen == 0)
		return false; /* that has another reason, and Nomad says it */
	for (size_t k = 0; k < SIZES; k++) {
		if (largest[k] < want[k]) {
			snprintf(why, CORE_CAUSE_MAX, "no node has %lld %s; the largest has %lld", (long long)want[k], units[k],
			    (long long)largest[k]);
			return true;
		}
	}
	snprintf(why, CORE_CAUSE_MAX, "no node has %lld %s and %lld %s together", (long long)want[SIZE_CPU], units[SIZE_CPU],
	    (long long)want[SIZE_MEMORY], units[SIZE_MEMORY]);
	return true;
}

/* --- pool threads --- */

static int
add_node(void *arg, const json_t *node)
{
	struct sizes *s = arg;
	struct node_size size;

	if (s->n == NODES_MAX || !node_size_read(node, &size))
		return ERR_TOOBIG;
	if (s->n == s->cap) {
		s->cap = s->cap == 0 ? 64 : s->cap * 2;
		s->nodes = xrealloc(s->nodes, s->cap * sizeof(*s->nodes));
	}
	s->nodes[s->n++] = size;
	return 0;
}

/* Under the lock: one thread asks, the others wait for what it gets. */
static int
refresh(struct sizes *s, struct nomad *n)
{
	struct err e = {0};
	int before = s->rc;

	if (s->read_mono != 0 && s->read_mono + FRESH_MS > clock_mono_ms())
		return s->rc;
	s->n = 0;
	s->rc = nomad_nodes(n, add_node, s, &e);
	s->read_mono = clock_mono_ms();
	if (s->rc == ERR_DENIED && before != ERR_DENIED)
		log_warn("nomad",
		    "nodes cannot be read (node:read is missing): what is too large for all of them is not told from what has to wait");
	return s->rc;
}

void
sizes_judge(struct cluster *c, struct nomad *n, const char *id, struct placement *p)
{
	struct sizes *s = &c->sizes;
	json_t *job = NULL;
	char why[CORE_CAUSE_MAX];

	if (!p->exhausted || nomad_job(n, id, &job, NULL) != 0)
		return;
	pthread_mutex_lock(&s->lock);
	if (refresh(s, n) == 0 && size_judge(job, s->nodes, s->n, why)) {
		p->never = true;
		memcpy(p->why, why, sizeof(why));
	}
	pthread_mutex_unlock(&s->lock);
	json_decref(job);
}

/* --- life --- */

void
sizes_start(struct cluster *c)
{
	pthread_mutex_init(&c->sizes.lock, NULL);
}

void
sizes_free(struct cluster *c)
{
	pthread_mutex_destroy(&c->sizes.lock);
	free(c->sizes.nodes);
}
