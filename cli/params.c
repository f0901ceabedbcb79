#include "cli/params.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/render.h"

/* JSON of any kind from text, or the text itself. */
static json_t *
json_or_text(const char *text, const char *type)
{
	json_t *v = NULL;

	if (strcmp(type, "string") != 0 && type[0] != '\0')
		v = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	return v != NULL ? v : json_string(text);
}

/* One more item, or a whole list at once. */
static int
add_to_list(json_t *params, const char *key, const char *text, const char *item_type, struct err *e)
{
	json_t *list = json_object_get(params, key), *whole = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

	if (json_is_array(whole) && list != NULL) {
		json_decref(whole);
		return err_set(e, ERR_INVALID, "parameter '%.64s' is given twice", key);
	}
	if (json_is_array(whole)) {
		json_object_set_new(params, key, whole);
		return 0;
	}
	json_decref(whole);
	if (list == NULL) {
		list = json_array();
		json_object_set_new(params, key, list);
	}
	if (json_array_append_new(list, json_or_text(text, item_type)) != 0)
		return err_set(e, ERR_INVALID, "parameter '%.64s' is not UTF-8", key);
	return 0;
}

int
params_add(json_t *params, const json_t *schema, const char *text, struct err *e)
{
	const char *equals = strchr(text, '='), *value;
	const json_t *property;
	json_t *made;
	char *key;
	int rc = 0;

	if (equals == NULL || equals == text) {
		(void)err_set(e, ERR_INVALID, "-p %.64s: expected key=value", text);
		(void)err_hint(e, "-p severity=error, for example");
		return ERR_INVALID;
	}
	key = xstrndup(text, (size_t)(equals - text));
	value = equals + 1;
	property = json_object_get(json_object_get(schema, "properties"), key);
	if (strcmp(json_text(property, "type"), "array") == 0) {
		rc = add_to_list(params, key, value, json_text(json_object_get(property, "items"), "type"), e);
	} else if (json_object_get(params, key) != NULL) {
		rc = err_set(e, ERR_INVALID, "parameter '%.64s' is given twice", key);
	} else if ((made = json_or_text(value, json_text(property, "type"))) == NULL) {
		rc = err_set(e, ERR_INVALID, "parameter '%.64s' is not UTF-8", key);
	} else {
		json_object_set_new(params, key, made);
	}
	free(key);
	return rc;
}
