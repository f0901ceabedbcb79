/* Bodies of the API as far as they are read without I/O. The first byte chooses: a submission's fields as the dispatcher takes them
 * from anyone, or a lease as the worker takes it from the dispatcher. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dispatcher/call.h"
#include "worker/lease.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct body {
	const char *workflow, *key;
	json_t *target, *list;
	int64_t priority, not_before_real_ms;
	bool leaving;
};

static const struct field fields[] = {
	{"workflow", FIELD_TEXT, offsetof(struct body, workflow), true, 1, 63},
	{"target", FIELD_OBJECT, offsetof(struct body, target), true, 0, 0},
	{"steps", FIELD_ARRAY, offsetof(struct body, list), false, 0, 0},
	{"priority", FIELD_INT, offsetof(struct body, priority), false, 0, 100},
	{"not_before", FIELD_TIME, offsetof(struct body, not_before_real_ms), false, 0, 64},
	{"idempotency_key", FIELD_TEXT, offsetof(struct body, key), false, 1, 128},
	{"leaving", FIELD_BOOL, offsetof(struct body, leaving), false, 0, 0},
};

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static void
take_body(json_t *o)
{
	struct body b = {.priority = 50};
	struct err e = {0};

	if (fields_read(o, fields, sizeof(fields) / sizeof(fields[0]), &b, &e) != 0) {
		check(e.code == ERR_INVALID && e.msg[0] != '\0');
		return;
	}
	check(b.workflow != NULL && strlen(b.workflow) >= 1 && strlen(b.workflow) <= 63);
	check(json_is_object(b.target) && (b.list == NULL || json_is_array(b.list)));
	check(b.priority >= 0 && b.priority <= 100);
	check(b.key == NULL || strlen(b.key) <= 128);
	check(json_object_size(o) <= sizeof(fields) / sizeof(fields[0]));
}

static void
take_lease(const json_t *o)
{
	struct lease_terms t = {.attempt = 0};
	struct err e = {0};

	if (lease_parse(o, &t, &e) == 0) {
		check(run_id_valid(t.run) && t.timeout_ms > 0 && t.attempt > 0);
		check(t.target_name[0] != '\0' && strchr(t.target_name, '/') == NULL && strcmp(t.target_name, "..") != 0);
		check(t.memory_bytes > 0 && t.disk_bytes > 0 && t.cpu_millis > 0);
		check(sha256_text_valid(t.bundle.sha256) && sha256_text_valid(t.target.sha256));
		check(json_is_object(t.params));
	} else {
		check(e.code == ERR_INVALID && e.msg[0] != '\0');
	}
	lease_release(&t);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *o;

	if (size == 0)
		return 0;
	o = json_loadb((const char *)data + 1, size - 1, JSON_REJECT_DUPLICATES, NULL);
	if (json_is_object(o)) {
		if (data[0] == 'l')
			take_lease(o);
		else
			take_body(o);
	}
	json_decref(o);
	return 0;
}
