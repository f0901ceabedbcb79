/* metadata.yaml and vertical.yaml from anyone: no crash, no leak, and what is accepted survives being shown and used. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "proto/workflow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct workflow *w = NULL;
	struct vertical *v = NULL;
	struct err e = {0};

	if (workflow_parse("f", "security_assessment", (const char *)data, size, &w, &e) == 0) {
		json_t *out = NULL;

		json_decref(workflow_json(w));
		if (schema_apply(w->parameters, NULL, &out, &e) == 0)
			json_decref(out);
		workflow_free(w);
	} else if (e.msg[0] == '\0') {
		abort(); /* every refusal has a reason */
	}
	if (vertical_parse("f", "python", (const char *)data, size, &v, &e) == 0)
		vertical_free(v);
	return 0;
}
