#include <math.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "proto/workflow.h"

/* The subset of JSON Schema 2020-12 that DESIGN §7 lists. A keyword is a row: how its own value must look, and what it demands
 * of a value. Patterns are POSIX extended regular expressions (documented in docs/WORKFLOWS.md), of bounded length. */

#define DEPTH_MAX 16
#define PATH_MAX_BYTES 512
#define PATTERN_MAX 256

struct check {
	struct buf path; /* "params.exclude[2]" */
	unsigned depth;
	struct err *e;
};

typedef int (*keyword_fn)(struct check *c, const json_t *arg, const json_t *schema, const json_t *value);

enum nested { NOT_NESTED, IS_SCHEMA, MAP_OF_SCHEMAS };

struct keyword {
	const char *name;
	bool (*form)(const json_t *arg); /* what the keyword's own value must be */
	enum nested nested;              /* whether it holds schemas; only its objects do */
	keyword_fn validate;             /* NULL: an annotation */
};

static int check_value(struct check *c, const json_t *schema, const json_t *value);

static int
bad(struct check *c, const char *fmt, const char *detail)
{
	struct buf b = buf_make(sizeof(c->e->msg));
	int rc;

	buf_addf(&b, fmt, detail);
	if (c->path.len > 0)
		rc = err_set(c->e, ERR_INVALID, "%s: %s", buf_str(&c->path), buf_str(&b));
	else
		rc = err_set(c->e, ERR_INVALID, "%s", buf_str(&b));
	buf_release(&b);
	return rc;
}

static size_t
enter(struct check *c, const char *key, size_t index)
{
	size_t old = c->path.len;

	if (key != NULL)
		buf_addf(&c->path, "%s%s", old > 0 ? "." : "", key);
	else
		buf_addf(&c->path, "[%zu]", index);
	return old;
}

static void
leave(struct check *c, size_t old)
{
	c->path.len = old;
	if (c->path.data != NULL)
		c->path.data[old] = '\0';
}

/* Writes a value, cut, for a message. */
static char *
show(const json_t *v, char out[96])
{
	char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);

	snprintf(out, 96, "%.80s%s", text != NULL ? text : "?", text != NULL && strlen(text) > 80 ? "…" : "");
	free(text);
	return out;
}

static bool
type_is(const char *type, const json_t *v)
{
	static const struct {
		const char *name;
		json_type a, b;
	} types[] = {{"object", JSON_OBJECT, JSON_OBJECT}, {"array", JSON_ARRAY, JSON_ARRAY}, {"string", JSON_STRING, JSON_STRING},
	    {"integer", JSON_INTEGER, JSON_INTEGER}, {"number", JSON_INTEGER, JSON_REAL}, {"boolean", JSON_TRUE, JSON_FALSE},
	    {"null", JSON_NULL, JSON_NULL}};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (strcmp(types[i].name, type) == 0 && v == NULL)
			return true; /* only asks whether the type exists */
		if (strcmp(types[i].name, type) == 0)
			return json_typeof(v) == types[i].a || json_typeof(v) == types[i].b;
	}
	return false;
}

/* --- what each keyword demands of a value --- */

static int
v_type(struct check *c, const json_t *arg, const json_t *schema, const json_t *value)
{
	size_t i;
	json_t *t;

	(void)schema;
	if (json_is_string(arg))
		return type_is(json_string_value(arg), value) ? 0 : bad(c, "must be of type %s", json_string_value(arg));
	json_array_foreach(arg, i, t) {
		if (type_is(json_string_value(t), value))
			return 0;
	}
	return bad(c, "is of none of the allowed types%s", "");
}

static int
v_enum(struct check *c, const json_t *arg, const json_t *schema, const json_t *value)
{
	char shown[96];
	char *allowed;
	size_t i;
	json_t *v;
	int rc;

	(void)schema;
	json_array_foreach(arg, i, v) {
		if (json_equal(v, value))
			return 0;
	}
	rc = bad(c, "%s is not one of the allowed values", show(value, shown));
	allowed = json_dumps(arg, JSON_COMPACT);
	err_hint(c->e, "allowed: %.170s", allowed);
	free(allowed);
	return rc;
}

static int
v_const(struct check *c, const json_t *arg, const json_t *schema, const json_t *value)
{
	char shown[96];

	(void)schema;
	return json_equal(arg, value) ? 0 : bad(c, "must be %s", show(arg, shown));
}

enum relation { AT_LEAST, AT_MOST, ABOVE, BELOW };

static int
compare(struct check *c, double have, const json_t *arg, enum relation r, const char *fmt)
{
	double bound = json_number_value(arg);
	bool ok[] = {have >= bound, have <= bound, have > bound, have < bound};
	char shown[96];

	return ok[r] ? 0 : bad(c, fmt, show(arg, shown));
}

#define NUMBER_RULE(name, relation, text) \
	static int name(struct check *c, const json_t *arg, const json_t *schema, const json_t *value) \
	{ \
		(void)schema; \
		return json_is_number(value) ? compare(c, json_number_value(value), arg, relation, text) : 0; \
	}
#define LENGTH_RULE(name, is_type, length, relation, text) \
	static int name(struct check *c, const json_t *arg, const json_t *schema, const json_t *value) \
	{ \
		(void)schema; \
		return is_type(value) ? compare(c, (double)length(value), arg, relation, text) : 0; \
	}

/* Characters, not bytes, as JSON Schema counts. */
static size_t
characters(const json_t *v)
{
	size_t n = 0;

	for (const char *s = json_string_value(v); *s != '\0'; s++)
		n += ((unsigned char)*s & 0xC0) != 0x80;
	return n;
}

NUMBER_RULE(v_minimum, AT_LEAST, "must be at least %s")
NUMBER_RULE(v_maximum, AT_MOST, "must be at most %s")
NUMBER_RULE(v_exclusive_minimum, ABOVE, "must be greater than %s")
NUMBER_RULE(v_exclusive_maximum, BELOW, "must be less than %s")
LENGTH_RULE(v_min_length, json_is_string, characters, AT_LEAST, "must have at least %s characters")
LENGTH_RULE(v_max_length, json_is_string, characters, AT_MOST, "must have at most %s characters")
LENGTH_RULE(v_min_items, json_is_array, json_array_size, AT_LEAST, "must have at least %s items")
LENGTH_RULE(v_max_items, json_is_array, json_array_size, AT_MOST, "must have at most %s items")

static int
v_multiple_of(struct check *c, const json_t *arg, const json_t *schema, const json_t *value)
{
	double q = json_number_value(value) / json_number_value(arg);
	char shown[96];

	(void)schema;
	if (!json_is_number(value) || fabs(q - round(q)) < 1e-9)
		return 0;
	return bad(c, "must be a multiple of %s", show(arg, shown));
}

static int
v_pattern(struct check *c, const json_t *arg, const json_t *schema, const json_t *value)
{
	regex_t re;
	int miss;

	(void)schema;
	if (!json_is_string(value))
		return 0;
	if (regcomp(&re, json_string_value(arg), REG_EXTENDED | REG_NOSUB) != 0)
		return bad(c, "the schema's pattern '%s' is broken", json_string_value(arg));
	miss = regexec(&re, json_string_value(value), 0, NULL, 0);
	regfree(&re);
	return miss ? bad(c, "does not match the pattern %s", json_string_value(arg)) : 0;
}

static int
v_required(struct check *c, const json_t *arg, const json_t *schema, const json_t *value)
{
	size_t i;
	json_t *name;

	(void)schema;
	if (!json_is_object(value))
		return 0;
	json_array_foreach(arg, i, name) {
		if (json_object_get(value, json_string_value(name)) == NULL)
			return bad(c, "'%s' is required", json_string_value(name));
	}
	return 0;
}

static int
v_properties(struct check *c, const json_t *arg, const json_t *schema, const json_t *value)
{
	const char *key;
	json_t *sub;

	(void)schema;
	if (!json_is_object(value))
		return 0;
	json_object_foreach((json_t *)arg, key, sub) {
		const json_t *v = json_object_get(value, key);
		size_t old;
		int rc;

		if (v == NULL)
			continue;
		old = enter(c, key, 0);
		rc = check_value(c, sub, v);
		leave(c, old);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* Names the known parameters, for the hint after an unknown one. */
static void
hint_known(struct check *c, const json_t *known)
{
	struct buf b = buf_make(160);
	const char *key;
	json_t *sub;

	json_object_foreach((json_t *)known, key, sub)
		buf_addf(&b, "%s%s", b.len > 0 ? ", " : "", key);
	err_hint(c->e, "known: %s%s", b.len > 0 ? buf_str(&b) : "none", b.overflow ? ", …" : "");
	buf_release(&b);
}

static int
v_additional(struct check *c, const json_t *arg, const json_t *schema, const json_t *value)
{
	const json_t *known = json_object_get(schema, "properties");
	const char *key;
	json_t *v;

	if (!json_is_object(value) || json_is_true(arg))
		return 0;
	json_object_foreach((json_t *)value, key, v) {
		size_t old;
		int rc;

		if (json_object_get(known, key) != NULL)
			continue;
		if (json_is_false(arg)) {
			rc = bad(c, "'%.80s' is not a known name", key);
			hint_known(c, known);
			return rc;
		}
		old = enter(c, key, 0);
		rc = check_value(c, arg, v);
		leave(c, old);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int
v_items(struct check *c, const json_t *arg, const json_t *schema, const json_t *value)
{
	size_t i;
	json_t *v;

	(void)schema;
	if (!json_is_array(value))
		return 0;
	json_array_foreach(value, i, v) {
		size_t old = enter(c, NULL, i);
		int rc = check_value(c, arg, v);

		leave(c, old);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* Equal values have equal texts (sorted keys), so a set of texts finds repeats without comparing every pair. */
static int
v_unique(struct check *c, const json_t *arg, const json_t *schema, const json_t *value)
{
	json_t *seen;
	size_t i;
	json_t *v;
	int rc = 0;

	(void)schema;
	if (!json_is_array(value) || !json_is_true(arg))
		return 0;
	seen = json_object();
	json_array_foreach(value, i, v) {
		char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_SORT_KEYS | JSON_COMPACT);
		char shown[96];

		if (json_object_get(seen, text) != NULL)
			rc = bad(c, "%s appears twice", show(v, shown));
		json_object_set_new(seen, text, json_null());
		free(text);
		if (rc != 0)
			break;
	}
	json_decref(seen);
	return rc;
}

/* --- what the keywords' own values must be --- */

static bool form_any(const json_t *arg) { return arg != NULL; }
static bool form_text(const json_t *arg) { return json_is_string(arg); }
static bool form_object(const json_t *arg) { return json_is_object(arg); }
static bool form_bool(const json_t *arg) { return json_is_boolean(arg); }
static bool form_bool_or_object(const json_t *arg) { return json_is_boolean(arg) || json_is_object(arg); }
static bool form_list(const json_t *arg) { return json_array_size(arg) > 0; }
static bool form_number(const json_t *arg) { return json_is_number(arg); }
static bool form_positive(const json_t *arg) { return json_is_number(arg) && json_number_value(arg) > 0; }
static bool form_count(const json_t *arg) { return json_is_integer(arg) && json_integer_value(arg) >= 0; }

static bool
form_names(const json_t *list)
{
	size_t i;
	json_t *v;

	json_array_foreach(list, i, v) {
		if (!json_is_string(v))
			return false;
	}
	return json_is_array(list);
}

static bool
form_types(const json_t *arg)
{
	size_t i;
	json_t *v;

	if (json_is_string(arg))
		return type_is(json_string_value(arg), NULL);
	json_array_foreach(arg, i, v) {
		if (!json_is_string(v) || !type_is(json_string_value(v), NULL))
			return false;
	}
	return json_array_size(arg) > 0;
}

static bool
form_pattern(const json_t *arg)
{
	regex_t re;

	if (!json_is_string(arg) || json_string_length(arg) > PATTERN_MAX)
		return false;
	if (regcomp(&re, json_string_value(arg), REG_EXTENDED | REG_NOSUB) != 0)
		return false;
	regfree(&re);
	return true;
}

static const struct keyword keywords[] = {
	{"type", form_types, NOT_NESTED, v_type},
	{"enum", form_list, NOT_NESTED, v_enum},
	{"const", form_any, NOT_NESTED, v_const},
	{"minimum", form_number, NOT_NESTED, v_minimum},
	{"maximum", form_number, NOT_NESTED, v_maximum},
	{"exclusiveMinimum", form_number, NOT_NESTED, v_exclusive_minimum},
	{"exclusiveMaximum", form_number, NOT_NESTED, v_exclusive_maximum},
	{"multipleOf", form_positive, NOT_NESTED, v_multiple_of},
	{"minLength", form_count, NOT_NESTED, v_min_length},
	{"maxLength", form_count, NOT_NESTED, v_max_length},
	{"pattern", form_pattern, NOT_NESTED, v_pattern},
	{"minItems", form_count, NOT_NESTED, v_min_items},
	{"maxItems", form_count, NOT_NESTED, v_max_items},
	{"uniqueItems", form_bool, NOT_NESTED, v_unique},
	{"items", form_object, IS_SCHEMA, v_items},
	{"required", form_names, NOT_NESTED, v_required},
	{"properties", form_object, MAP_OF_SCHEMAS, v_properties},
	{"additionalProperties", form_bool_or_object, IS_SCHEMA, v_additional},
	/* annotations */
	{"title", form_text, NOT_NESTED, NULL},
	{"description", form_text, NOT_NESTED, NULL},
	{"default", form_any, NOT_NESTED, NULL},
	{"examples", form_list, NOT_NESTED, NULL},
	{"deprecated", form_bool, NOT_NESTED, NULL},
	{"readOnly", form_bool, NOT_NESTED, NULL},
	{"writeOnly", form_bool, NOT_NESTED, NULL},
	{"$comment", form_text, NOT_NESTED, NULL},
};

#define N_KEYWORDS (sizeof(keywords) / sizeof(keywords[0]))

static int
check_value(struct check *c, const json_t *schema, const json_t *value)
{
	for (size_t i = 0; i < N_KEYWORDS; i++) {
		const json_t *arg = json_object_get(schema, keywords[i].name);
		int rc;

		if (arg == NULL || keywords[i].validate == NULL)
			continue;
		if ((rc = keywords[i].validate(c, arg, schema, value)) != 0)
			return rc;
	}
	return 0;
}

/* --- whether a schema is one --- */

static int check_schema(struct check *c, const json_t *schema);

static int
check_properties(struct check *c, const json_t *properties)
{
	const char *key;
	json_t *sub;

	json_object_foreach((json_t *)properties, key, sub) {
		size_t old = enter(c, key, 0);
		int rc = check_schema(c, sub);

		leave(c, old);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int
check_keyword(struct check *c, const char *key, const json_t *arg)
{
	size_t old = enter(c, key, 0), i = 0;
	int rc = 0;

	while (i < N_KEYWORDS && strcmp(keywords[i].name, key) != 0)
		i++;
	if (i == N_KEYWORDS)
		rc = bad(c, "this keyword is not supported%s", "");
	else if (!keywords[i].form(arg))
		rc = bad(c, "the keyword's value is of the wrong type or out of bounds%s", "");
	else if (keywords[i].nested == MAP_OF_SCHEMAS)
		rc = check_properties(c, arg);
	else if (keywords[i].nested == IS_SCHEMA && json_is_object(arg))
		rc = check_schema(c, arg);
	leave(c, old);
	return rc;
}

static int
check_schema(struct check *c, const json_t *schema)
{
	const json_t *def;
	const char *key;
	json_t *arg;
	int rc = 0;

	if (!json_is_object(schema))
		return bad(c, "must be a schema (an object)%s", "");
	if (++c->depth > DEPTH_MAX)
		return bad(c, "nested too deeply%s", "");
	json_object_foreach((json_t *)schema, key, arg) {
		if ((rc = check_keyword(c, key, arg)) != 0)
			return rc;
	}
	/* A default that its own schema refuses would fail every submission that relies on it. */
	def = json_object_get(schema, "default");
	if (def != NULL && (rc = check_value(c, schema, def)) != 0)
		err_prefix(c->e, rc, "the default of");
	c->depth--;
	return rc;
}

int
schema_check(const json_t *schema, struct err *e)
{
	struct err local;
	struct check c = {.path = buf_make(PATH_MAX_BYTES), .e = e != NULL ? e : &local};
	const json_t *type = json_object_get(schema, "type");
	int rc = check_schema(&c, schema);

	if (rc == 0 && (!json_is_string(type) || strcmp(json_string_value(type), "object") != 0))
		rc = bad(&c, "the outermost schema must say type: object%s", "");
	buf_release(&c.path);
	return rc;
}

/* Puts defaults of missing properties into object, recursively into objects that are there. */
static void
add_defaults(const json_t *schema, json_t *object)
{
	const char *key;
	json_t *sub;

	json_object_foreach(json_object_get(schema, "properties"), key, sub) {
		json_t *have = json_object_get(object, key), *def = json_object_get(sub, "default");

		if (have == NULL && def != NULL) {
			have = json_deep_copy(def);
			json_object_set_new(object, key, have);
		}
		if (json_is_object(have))
			add_defaults(sub, have);
	}
}

int
schema_apply(const json_t *schema, const json_t *value, json_t **ret, struct err *e)
{
	struct err local;
	struct check c = {.path = buf_make(PATH_MAX_BYTES), .e = e != NULL ? e : &local};
	json_t *merged = value != NULL ? json_deep_copy(value) : json_object();
	int rc;

	if (json_is_object(merged))
		add_defaults(schema, merged);
	rc = check_value(&c, schema, merged);
	buf_release(&c.path);
	if (rc == 0)
		*ret = merged;
	else
		json_decref(merged);
	return rc;
}
