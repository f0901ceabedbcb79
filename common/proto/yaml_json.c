#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/num.h"
#include "proto/workflow.h"

#define DEPTH_MAX 32
#define NODES_MAX 20000
#define POINTER_MAX 2048

/* One parse; `path` is the JSON pointer of the node being read. */
struct reader {
	const char *file;
	yaml_parser_t parser;
	json_t *lines; /* borrowed; NULL: not wanted */
	struct buf path;
	size_t nodes;
	struct err *e;
};

static int read_node(struct reader *r, const yaml_event_t *ev, unsigned depth, json_t **ret);

static int
bad(struct reader *r, const yaml_event_t *ev, const char *reason)
{
	return err_set(r->e, ERR_INVALID, "%s:%zu: %s", r->file, ev->start_mark.line + 1, reason);
}

static int
next_event(struct reader *r, yaml_event_t *ev)
{
	if (yaml_parser_parse(&r->parser, ev))
		return 0;
	return err_set(r->e, ERR_INVALID, "%s:%zu: not valid YAML: %s", r->file, r->parser.problem_mark.line + 1,
	    r->parser.problem != NULL ? r->parser.problem : "unreadable");
}

/* Adds "/key" to the path, escaped as RFC 6901 asks; returns the old length for path_pop. */
static size_t
path_push(struct reader *r, const char *key)
{
	size_t old = r->path.len;

	buf_addc(&r->path, '/');
	for (; *key != '\0'; key++) {
		if (*key == '~' || *key == '/')
			buf_adds(&r->path, *key == '~' ? "~0" : "~1");
		else
			buf_addc(&r->path, *key);
	}
	return old;
}

static void
path_pop(struct reader *r, size_t old)
{
	r->path.len = old;
	if (r->path.data != NULL)
		r->path.data[old] = '\0';
}

static bool
looks_like_number(const char *s)
{
	size_t digits = 0;

	if (*s == '-' || *s == '+')
		s++;
	for (; *s != '\0'; s++) {
		if (*s >= '0' && *s <= '9')
			digits++;
		else if (strchr(".eE+-", *s) == NULL)
			return false;
	}
	return digits > 0;
}

/* A plain scalar by YAML 1.2's core schema; anything else is text. Hexadecimal and octal stay text: no surprises. */
static json_t *
plain_scalar(const char *s)
{
	static const struct {
		const char *word;
		int value; /* 0 false, 1 true, -1 null */
	} words[] = {{"true", 1}, {"True", 1}, {"TRUE", 1}, {"false", 0}, {"False", 0}, {"FALSE", 0}, {"null", -1},
	    {"Null", -1}, {"NULL", -1}, {"~", -1}, {"", -1}};
	int64_t i;

	for (size_t k = 0; k < sizeof(words) / sizeof(words[0]); k++) {
		if (strcmp(s, words[k].word) == 0)
			return words[k].value < 0 ? json_null() : json_boolean(words[k].value);
	}
	if (num_int(s, INT64_MIN, INT64_MAX, &i, NULL) == 0)
		return json_integer(i);
	if (looks_like_number(s)) {
		char *end;
		double d = strtod(s, &end);

		if (*end == '\0' && isfinite(d))
			return json_real(d);
	}
	return json_string(s);
}

static int
read_scalar(struct reader *r, const yaml_event_t *ev, json_t **ret)
{
	const char *s = (const char *)ev->data.scalar.value;
	json_t *v;

	if (strlen(s) != ev->data.scalar.length)
		return bad(r, ev, "text with a NUL byte");
	v = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? plain_scalar(s) : json_string(s);
	if (v == NULL)
		return bad(r, ev, "text that is not valid UTF-8");
	*ret = v;
	return 0;
}

static int
read_sequence(struct reader *r, unsigned depth, json_t **ret)
{
	json_t *list = json_array();
	yaml_event_t ev;
	int rc;

	for (;;) {
		char index[24];
		size_t old;
		json_t *item = NULL;

		rc = next_event(r, &ev);
		if (rc != 0 || ev.type == YAML_SEQUENCE_END_EVENT)
			break;
		snprintf(index, sizeof(index), "%zu", json_array_size(list));
		old = path_push(r, index);
		rc = read_node(r, &ev, depth + 1, &item);
		path_pop(r, old);
		yaml_event_delete(&ev);
		if (rc != 0)
			goto out;
		json_array_append_new(list, item);
	}
	if (rc == 0)
		yaml_event_delete(&ev);
out:
	if (rc == 0)
		*ret = list;
	else
		json_decref(list);
	return rc;
}

/* One key with its value into map; ev is the key's event. */
static int
read_pair(struct reader *r, const yaml_event_t *ev, unsigned depth, json_t *map)
{
	yaml_event_t value_ev;
	json_t *value = NULL;
	const char *key;
	size_t old;
	int rc;

	if (ev->type != YAML_SCALAR_EVENT)
		return bad(r, ev, "a key must be plain text");
	key = (const char *)ev->data.scalar.value;
	if (strlen(key) != ev->data.scalar.length)
		return bad(r, ev, "a key with a NUL byte");
	if (json_object_get(map, key) != NULL)
		return err_set(r->e, ERR_INVALID, "%s:%zu: key '%.64s' appears twice", r->file, ev->start_mark.line + 1, key);
	if ((rc = next_event(r, &value_ev)) != 0)
		return rc;
	old = path_push(r, key);
	/* The key's line, not the value's: a block value begins below it. */
	if (r->lines != NULL)
		json_object_set_new(r->lines, buf_str(&r->path), json_integer((json_int_t)ev->start_mark.line + 1));
	rc = read_node(r, &value_ev, depth + 1, &value);
	path_pop(r, old);
	yaml_event_delete(&value_ev);
	if (rc == 0 && json_object_set_new(map, key, value) != 0)
		rc = bad(r, ev, "a key that is not valid UTF-8");
	return rc;
}

static int
read_mapping(struct reader *r, unsigned depth, json_t **ret)
{
	json_t *map = json_object();
	yaml_event_t ev;
	int rc;

	for (;;) {
		rc = next_event(r, &ev);
		if (rc != 0)
			break;
		if (ev.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&ev);
			break;
		}
		rc = read_pair(r, &ev, depth, map);
		yaml_event_delete(&ev);
		if (rc != 0)
			break;
	}
	if (rc == 0)
		*ret = map;
	else
		json_decref(map);
	return rc;
}

/* Anchors and aliases are refused whole: metadata needs none, and they are how a small file becomes a large one. */
static int
refuse_extras(struct reader *r, const yaml_event_t *ev)
{
	const yaml_char_t *anchor = NULL, *tag = NULL;

	switch (ev->type) {
	case YAML_ALIAS_EVENT:
		return bad(r, ev, "aliases (*name) are not allowed");
	case YAML_SCALAR_EVENT:
		anchor = ev->data.scalar.anchor, tag = ev->data.scalar.tag;
		break;
	case YAML_SEQUENCE_START_EVENT:
		anchor = ev->data.sequence_start.anchor, tag = ev->data.sequence_start.tag;
		break;
	case YAML_MAPPING_START_EVENT:
		anchor = ev->data.mapping_start.anchor, tag = ev->data.mapping_start.tag;
		break;
	default:
		return bad(r, ev, "unexpected end");
	}
	if (anchor != NULL)
		return bad(r, ev, "anchors (&name) are not allowed");
	return tag != NULL ? bad(r, ev, "tags (!name) are not allowed") : 0;
}

static int
read_node(struct reader *r, const yaml_event_t *ev, unsigned depth, json_t **ret)
{
	int rc = refuse_extras(r, ev);

	if (rc != 0)
		return rc;
	if (depth > DEPTH_MAX || r->path.overflow)
		return bad(r, ev, "nested too deeply");
	if (++r->nodes > NODES_MAX)
		return bad(r, ev, "too many values");
	if (r->lines != NULL && json_object_get(r->lines, buf_str(&r->path)) == NULL)
		json_object_set_new(r->lines, buf_str(&r->path), json_integer((json_int_t)ev->start_mark.line + 1));
	if (ev->type == YAML_SCALAR_EVENT)
		return read_scalar(r, ev, ret);
	return ev->type == YAML_SEQUENCE_START_EVENT ? read_sequence(r, depth, ret) : read_mapping(r, depth, ret);
}

/* Exactly one document: stream start, document start, node, document end, stream end. */
static int
read_document(struct reader *r, json_t **ret)
{
	yaml_event_t ev;
	int rc;

	for (int step = 0; step < 2; step++) {
		if ((rc = next_event(r, &ev)) != 0)
			return rc;
		if (ev.type == YAML_STREAM_END_EVENT)
			rc = err_set(r->e, ERR_INVALID, "%s:1: the file is empty", r->file);
		yaml_event_delete(&ev);
		if (rc != 0)
			return rc;
	}
	if ((rc = next_event(r, &ev)) != 0)
		return rc;
	rc = read_node(r, &ev, 0, ret);
	yaml_event_delete(&ev);
	for (int step = 0; rc == 0 && step < 2; step++) {
		if ((rc = next_event(r, &ev)) != 0)
			break;
		if (step == 1 && ev.type != YAML_STREAM_END_EVENT)
			rc = bad(r, &ev, "more than one document");
		yaml_event_delete(&ev);
	}
	return rc;
}

int
yaml_to_json(const char *file, const char *text, size_t len, json_t **ret, json_t **lines, struct err *e)
{
	struct reader r = {.file = file, .path = buf_make(POINTER_MAX), .e = e};
	json_t *doc = NULL;
	int rc;

	if (len > WORKFLOW_FILE_MAX)
		return err_set(e, ERR_INVALID, "%s:1: longer than %d bytes", file, WORKFLOW_FILE_MAX);
	if (!yaml_parser_initialize(&r.parser))
		abort(); /* out of memory */
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
	r.lines = lines != NULL ? json_object() : NULL;
	rc = read_document(&r, &doc);
	yaml_parser_delete(&r.parser);
	buf_release(&r.path);
	if (rc != 0) {
		json_decref(doc);
		json_decref(r.lines);
		return rc;
	}
	*ret = doc;
	if (lines != NULL)
		*lines = r.lines;
	return 0;
}
