/* Two JSON texts, a schema and a value, with a NUL between them: as the API takes parameters from anyone. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/workflow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nul = memchr(data, 0, size);
	json_t *schema, *value, *out = NULL, *again = NULL;
	struct err e = {0};

	if (nul == NULL)
		return 0;
	schema = json_loadb((const char *)data, (size_t)(nul - data), JSON_REJECT_DUPLICATES, NULL);
	value = json_loadb((const char *)nul + 1, size - (size_t)(nul + 1 - data), JSON_REJECT_DUPLICATES, NULL);
	if (schema != NULL && schema_check(schema, &e) == 0 && schema_apply(schema, value, &out, &e) == 0) {
		/* What was accepted is accepted again, unchanged: defaults do not fight the rules. */
		if (schema_apply(schema, out, &again, &e) != 0 || !json_equal(out, again))
			abort();
		json_decref(again);
		json_decref(out);
	}
	json_decref(schema);
	json_decref(value);
	return 0;
}
