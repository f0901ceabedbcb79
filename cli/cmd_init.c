/* drover init: the first API tokens. Only their digests are kept; the tokens are shown once. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "proto/run.h"

#define DATA_DIR "/var/lib/drover"
#define FILE_NAME "tokens.json"
#define TOKEN_PREFIX "drover_"
#define TOKEN_BYTES 32
#define TOKEN_MAX (sizeof(TOKEN_PREFIX) + 2 * TOKEN_BYTES)

static const struct role {
	const char *name, *scopes[3], *text;
} roles[] = {
	{"admin", {"admin"}, "operators"},
	{"analyst", {"read", "submit"}, "people and CI jobs that run workflows"},
	{"worker", {"worker"}, "drover-worker"},
	{"autoscale", {"manage"}, "drover-autoscale"},
};
#define N_ROLES (sizeof(roles) / sizeof(roles[0]))

/* A fresh token, and its row for the file (new reference). */
static json_t *
make_token(const struct role *role, const char *tenant, char token[TOKEN_MAX])
{
	uint8_t random[TOKEN_BYTES], hash[SHA256_LEN];
	char text[2 * TOKEN_BYTES + 1], hex[SHA256_HEX_LEN], at[CLOCK_TEXT_LEN];
	json_t *scopes = json_array();

	random_bytes(random, sizeof(random));
	snprintf(token, TOKEN_MAX, "%s%s", TOKEN_PREFIX, hex_encode(random, sizeof(random), text));
	sha256_of(token, strlen(token), hash);
	for (size_t i = 0; i < 3 && role->scopes[i] != NULL; i++)
		json_array_append_new(scopes, json_string(role->scopes[i]));
	return json_pack("{s:s, s:s, s:o, s:s, s:s}", "name", role->name, "sha256", hex_encode(hash, sizeof(hash), hex), "scopes",
	    scopes, "tenant", tenant, "created_at", clock_text(clock_real_ms(), at));
}

static int
write_file(const char *dir, bool force, const json_t *rows, struct err *e)
{
	char *text = json_dumps(rows, JSON_INDENT(1));
	int fd = -1, rc = file_mkdirs(dir, 0700, e);

	if (rc != 0)
		goto out;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		rc = err_set(e, ERR_IO, "%.200s: %s", dir, strerror(errno));
		goto out;
	}
	if (!force && faccessat(fd, FILE_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		rc = err_set(e, ERR_CONFLICT, "%.200s/%s is there already", dir, FILE_NAME);
		(void)err_hint(e, "-force replaces it, and all its tokens stop working");
		goto out;
	}
	rc = file_replace(fd, FILE_NAME, text, strlen(text), 0600, e);
out:
	if (fd >= 0)
		close(fd);
	free(text);
	return rc;
}

/* The line that hands a worker job its secrets; the keys come from the environment of the shell that runs it. */
static void
print_variable(const char *kind, const char *vertical, const char *class, const char *token)
{
	printf("\n  nomad var put -force nomad/jobs/drover-%s-%s%s \\\n      DROVER_TOKEN=%s \\\n"
	       "      S3_ACCESS_KEY=\"$S3_ACCESS_KEY\" S3_SECRET_KEY=\"$S3_SECRET_KEY\"\n", kind, vertical, class, token);
}

/* The lines for each vertical of the toolbox; for a name to be filled in where there is no toolbox here. */
static void
print_variables(const char *toolbox, const char *token)
{
	char path[4096];
	struct dirent **found = NULL;
	int n = toolbox[0] != '\0' && file_join(path, sizeof(path), toolbox, "verticals", NULL) == 0 ?
	    scandir(path, &found, NULL, alphasort) : -1;
	bool any = false;

	printf("\nFor the workers that Nomad starts (S3_ACCESS_KEY and S3_SECRET_KEY as in your shell; in the dispatcher's namespace):\n");
	for (int i = 0; i < n; i++) {
		if (vertical_name_valid(found[i]->d_name)) {
			print_variable("run", found[i]->d_name, "", token);
			print_variable("run", found[i]->d_name, "-large", token);
			print_variable("workers", found[i]->d_name, "", token);
			any = true;
		}
		free(found[i]);
	}
	free(found);
	if (any)
		return;
	print_variable("run", "VERTICAL", "", token);
	printf("\nOnce for each vertical, and for drover-run-VERTICAL-large and drover-workers-VERTICAL; -toolbox DIR prints them all.\n");
}

static void
print_tokens(const char *dir, const char *toolbox, char tokens[N_ROLES][TOKEN_MAX])
{
	printf("Tokens, shown this once (%s/%s keeps their digests only):\n\n", dir, FILE_NAME);
	for (size_t i = 0; i < N_ROLES; i++)
		printf("  %-9s  %s  for %s\n", roles[i].name, tokens[i], roles[i].text);
	printf("\nFor the command line:\n\n  export DROVER_TOKEN=%s\n", tokens[0]);
	print_variables(toolbox, tokens[2]);
	printf("\nFor drover-autoscale as a Nomad job, with -var secrets=true:\n\n  nomad var put -force nomad/jobs/drover-autoscale \\\n"
	       "      DROVER_TOKEN=%s\n", tokens[3]);
	printf("\nA running dispatcher takes them up within seconds.\n");
}

int
cmd_init(struct cli *c)
{
	const char *dir = args_value(&c->args, "data-dir"), *tenant = args_value(&c->args, "tenant");
	char tokens[N_ROLES][TOKEN_MAX];
	json_t *rows = json_array(), *shown = json_object();
	struct err e = {0};
	int code = EXIT_FINE;

	dir = dir != NULL ? dir : DATA_DIR;
	tenant = tenant != NULL ? tenant : "default";
	for (size_t i = 0; i < N_ROLES; i++) {
		json_array_append_new(rows, make_token(&roles[i], tenant, tokens[i]));
		json_object_set_new(shown, roles[i].name, json_string(tokens[i]));
	}
	if (tenant[0] == '\0' || strlen(tenant) >= TENANT_NAME_MAX || json_array_size(rows) != N_ROLES)
		(void)err_set(&e, ERR_INVALID, "-tenant: 1 to %d bytes of UTF-8", TENANT_NAME_MAX - 1);
	else
		(void)write_file(dir, args_has(&c->args, "force"), rows, &e);
	if (e.code != 0) {
		code = cli_fail(&e);
	} else if (c->settings.json) {
		json_t *whole = json_pack("{s:O, s:s+}", "tokens", shown, "file", dir, "/" FILE_NAME);

		cli_print_json(whole);
		json_decref(whole);
	} else {
		print_tokens(dir, args_value(&c->args, "toolbox") != NULL ? args_value(&c->args, "toolbox") : c->settings.toolbox,
		    tokens);
	}
	mem_wipe(tokens, sizeof(tokens));
	json_decref(shown);
	json_decref(rows);
	return code;
}
