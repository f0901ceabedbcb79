/* jobs_render.c - the variables of run.nomad.hcl for one vertical and class, and of workers.nomad.hcl for one vertical. Pure. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/mem.h"
#include "dispatcher/cluster_priv.h"

#define VARIABLES_MAX (256 * 1024)
#define DOCKER_CACHE "/var/cache/drover"
#define MIB ((int64_t)1024 * 1024)
#define MEMORY_MIN_MB 16

void
job_id(const struct cluster_config *cfg, const char *vertical, enum run_class class, char out[JOB_ID_MAX])
{
	snprintf(out, JOB_ID_MAX, "%s-run-%s%s", cfg->job_prefix, vertical, class == CLASS_LARGE ? "-large" : "");
}

void
group_id(const struct cluster_config *cfg, const char *vertical, char out[JOB_ID_MAX])
{
	snprintf(out, JOB_ID_MAX, "%s-workers-%s", cfg->job_prefix, vertical);
}

/* A quoted HCL string; what would begin a template of the file's own stays as written. */
static void
add_string(struct buf *b, const char *s)
{
	buf_addc(b, '"');
	for (; *s != '\0'; s++) {
		if ((s[0] == '$' || s[0] == '%') && s[1] == '{')
			buf_addc(b, s[0]);
		if (s[0] == '"' || s[0] == '\\')
			buf_addc(b, '\\');
		if ((unsigned char)s[0] < 0x20 || s[0] == 0x7f)
			buf_addf(b, "\\u%04x", (unsigned)(unsigned char)s[0]);
		else
			buf_addc(b, s[0]);
	}
	buf_addc(b, '"');
}

static void
add_text(struct buf *b, const char *name, const char *value)
{
	buf_addf(b, "%s = ", name);
	add_string(b, value);
	buf_addc(b, '\n');
}

/* "a, b" as a list of strings. */
static void
add_list(struct buf *b, const char *name, const char *commas)
{
	char *copy = xstrdup(commas), *save = NULL;
	bool first = true;

	buf_addf(b, "%s = [", name);
	for (char *p = strtok_r(copy, ", \t", &save); p != NULL; p = strtok_r(NULL, ", \t", &save)) {
		if (!first)
			buf_adds(b, ", ");
		first = false;
		add_string(b, p);
	}
	buf_adds(b, "]\n");
	free(copy);
}

/* The operator's environment beats ours; sorted, so that the digest does not depend on the order. */
static void
add_env(struct buf *b, const struct cluster_config *cfg, const struct vertical *v, enum run_class class, const char *id, bool docker)
{
	char *secrets = xasprintf("nomad/jobs/%s", id);
	json_t *env = json_pack("{s:s, s:s, s:s}", "WORKER_VERTICAL", v->name, "WORKER_CLASS", run_class_word(class),
	    "DROVER_SECRETS_PATH", secrets);
	char **names;
	const char *name;
	json_t *value;
	size_t n = 0;

	if (docker) /* the root of the container is read-only */
		json_object_set_new(env, "CACHE_DIR", json_string(cfg->cache_volume[0] != '\0' ? DOCKER_CACHE : "${NOMAD_ALLOC_DIR}/data"));
	if (cfg->worker_env != NULL)
		json_object_update(env, cfg->worker_env);
	names = xcalloc(json_object_size(env) + 1, sizeof(*names));
	json_object_foreach(env, name, value) {
		size_t at = n++;

		for (; at > 0 && strcmp(names[at - 1], name) > 0; at--)
			names[at] = names[at - 1];
		names[at] = (char *)name;
	}
	buf_adds(b, "env = {\n");
	for (size_t i = 0; i < n; i++) {
		const char *s = json_string_value(json_object_get(env, names[i]));

		if (s == NULL)
			continue;
		buf_adds(b, "  ");
		add_string(b, names[i]);
		buf_adds(b, " = ");
		add_string(b, s);
		buf_addc(b, '\n');
	}
	buf_adds(b, "}\n");
	free(names);
	json_decref(env);
	free(secrets);
}

/* What both files want to know. */
static void
add_common(struct buf *b, const struct cluster_config *cfg, const struct vertical *v, enum run_class class, const char *id)
{
	const char *driver = cfg->driver[0] != '\0' ? cfg->driver : v->driver, *namespace = cfg->nomad.namespace;
	bool docker = strcmp(driver, "docker") == 0;

	add_text(b, "job_id", id);
	add_text(b, "vertical", v->name);
	add_text(b, "namespace", namespace != NULL && namespace[0] != '\0' ? namespace : "default");
	add_list(b, "datacenters", cfg->datacenters);
	add_text(b, "driver", driver);
	add_text(b, "image", docker && v->image != NULL ? v->image : "");
	if (!docker)
		add_text(b, "command", cfg->worker_command);
	add_text(b, "cache_volume", docker ? cfg->cache_volume : "");
	if (docker && cfg->docker_network != NULL)
		add_text(b, "docker_network", cfg->docker_network);
	add_env(b, cfg, v, class, id, docker);
}

/* A thousandth of a core counts as one MHz: shares matter, not the clock of the node. */
static void
add_size(struct buf *b, int64_t cpu_millis, int64_t memory_bytes)
{
	int64_t memory_mb = (memory_bytes + MIB - 1) / MIB;

	buf_addf(b, "cpu = %lld\n", (long long)cpu_millis);
	buf_addf(b, "memory = %lld\n", (long long)(memory_mb < MEMORY_MIN_MB ? MEMORY_MIN_MB : memory_mb));
}

/* Of the file and all variables so far. */
static void
digest_of(const char *hcl, const struct buf *b, char digest[65])
{
	struct sha256 *sha = sha256_new();
	uint8_t sum[SHA256_LEN];

	sha256_add(sha, hcl, strlen(hcl));
	sha256_add(sha, "", 1);
	sha256_add(sha, buf_str(b), b->len);
	sha256_end(sha, sum);
	hex_encode(sum, sizeof(sum), digest);
}

char *
job_variables(const struct cluster_config *cfg, const char *hcl, const struct vertical *v, enum run_class class, char digest[65])
{
	struct buf b = buf_make(VARIABLES_MAX);
	char id[JOB_ID_MAX];

	job_id(cfg, v->name, class, id);
	add_common(&b, cfg, v, class, id);
	add_text(&b, "class", run_class_word(class));
	add_size(&b, v->cpu_millis[class], v->memory_bytes[class]);
	add_text(&b, "ledger", cfg->ledger_uuid);
	digest_of(hcl, &b, digest);
	add_text(&b, "digest", digest);
	return buf_take(&b);
}

static long long
whole_s(int64_t ms)
{
	return (long long)(ms + 999) / 1000;
}

/* What the autoscaler goes by. */
static void
add_policy(struct buf *b, const struct vertical_warm *w)
{
	struct vertical_warm copy = *w;

	buf_addf(b, "threshold = %.6g\n", w->threshold);
	for (size_t i = 0; i < n_warm_keys; i++) {
		long long value = (long long)*warm_value(&copy, &warm_keys[i]);

		if (!warm_keys[i].duration)
			buf_addf(b, "%s = %lld\n", warm_keys[i].name, value);
		else if (value % 1000 == 0)
			buf_addf(b, "%s = \"%llds\"\n", warm_keys[i].name, value / 1000);
		else
			buf_addf(b, "%s = \"%lldms\"\n", warm_keys[i].name, value);
	}
}

char *
group_variables(const struct cluster_config *cfg, const char *hcl, const struct vertical *v, char digest[65], char spec[65])
{
	struct buf b = buf_make(VARIABLES_MAX);
	char id[JOB_ID_MAX];

	group_id(cfg, v->name, id);
	add_common(&b, cfg, v, CLASS_NORMAL, id);
	add_size(&b, v->warm.cpu_millis, v->warm.memory_bytes);
	buf_addf(&b, "slots = %lld\n", (long long)v->slots);
	add_text(&b, "service_provider", cfg->worker_service);
	add_text(&b, "ledger", cfg->ledger_uuid);
	digest_of(hcl, &b, spec);
	/* From here on Nomad changes things in place. */
	buf_addf(&b, "min = %lld\nmax = %lld\n", (long long)v->warm.min, (long long)v->warm.max);
	add_text(&b, "strategy", v->warm.strategy);
	buf_addf(&b, "target = %lld\ndrain_s = %lld\n", (long long)v->warm.target, whole_s(v->warm.drain_ms));
	add_policy(&b, &v->warm);
	digest_of(hcl, &b, digest);
	add_text(&b, "digest", digest);
	add_text(&b, "spec", spec);
	/* Of the first registration alone. */
	buf_addf(&b, "count = %lld\n", (long long)v->warm.count);
	return buf_take(&b);
}
