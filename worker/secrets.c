#include "worker/secrets.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cluster/nomad.h"

int
secrets_read(struct config *c, struct err *e)
{
	const struct {
		const char *name;
		char **field;
	} items[] = {
		{"DROVER_TOKEN", &c->token}, {"S3_ACCESS_KEY", &c->store.access_key}, {"S3_SECRET_KEY", &c->store.secret_key},
		{"S3_SESSION_TOKEN", &c->store.session_token},
	};
	struct nomad_config nc = nomad_settings_config(&c->nomad);
	struct nomad *n;
	json_t *found = NULL;
	int rc;

	if (c->secrets_path[0] == '\0')
		return 0;
	n = nomad_new(&nc);
	rc = nomad_variable(n, c->secrets_path, &found, e);
	nomad_free(n);
	if (rc != 0) {
		(void)err_prefix(e, rc, "credentials from the Nomad variable %s", c->secrets_path);
		(void)err_hint(e, "nomad var put %.80s DROVER_TOKEN=… S3_ACCESS_KEY=… S3_SECRET_KEY=…", c->secrets_path);
		return rc;
	}
	for (size_t i = 0; i < sizeof(items) / sizeof(items[0]); i++) {
		const char *value = json_string_value(json_object_get(found, items[i].name));

		if (value == NULL || (*items[i].field)[0] != '\0')
			continue;
		free(*items[i].field);
		*items[i].field = xstrdup(value);
	}
	json_decref(found);
	return 0;
}
