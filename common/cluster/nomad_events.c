#include <string.h>

#include "base/buf.h"
#include "cluster/nomad_priv.h"

#define LINE_MAX_BYTES (32 * 1024 * 1024) /* one line carries all events of one Raft commit */

struct reader {
	int (*each)(void *arg, uint64_t index, const json_t *event);
	void *arg;
	struct buf line; /* what has come of the current one */
	uint64_t lines;
	struct err *e;
};

/* One line: {} is a heartbeat, else {"Index":n,"Events":[…]}. */
static int
take_line(struct reader *r, const char *text, size_t len)
{
	json_t *v = json_loadb(text, len, 0, NULL), *event;
	const json_t *events = json_object_get(v, "Events");
	uint64_t index = (uint64_t)json_integer_value(json_object_get(v, "Index"));
	size_t i;
	int rc = 0;

	if (v == NULL)
		return err_set(r->e, ERR_PROTO, "a line of Nomad's event stream is not JSON");
	r->lines++;
	if (json_array_size(events) == 0)
		rc = r->each(r->arg, index, NULL);
	json_array_foreach(events, i, event) {
		rc = r->each(r->arg, index, event);
		if (rc != 0)
			break;
	}
	json_decref(v);
	return rc;
}

static int
take_bytes(void *arg, const void *data, size_t len)
{
	struct reader *r = arg;
	const char *p = data, *end = p + len;

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = (size_t)((nl != NULL ? nl : end) - p);
		int rc = 0;

		if (nl != NULL && r->line.len == 0) { /* the usual case: a whole line in one piece */
			rc = n > 0 ? take_line(r, p, n) : 0;
		} else {
			if (buf_add(&r->line, p, n) != 0)
				return err_set(r->e, ERR_PROTO, "a line of Nomad's event stream is too long");
			if (nl != NULL) {
				rc = r->line.len > 0 ? take_line(r, r->line.data, r->line.len) : 0;
				buf_release(&r->line);
			}
		}
		if (rc != 0)
			return rc;
		p += n + (nl != NULL);
	}
	return 0;
}

int
nomad_events(struct nomad *n, uint64_t index, int (*each)(void *arg, uint64_t index, const json_t *event), void *arg,
    const atomic_bool *stop, struct err *e)
{
	struct reader r = {.each = each, .arg = arg, .line = buf_make(LINE_MAX_BYTES), .e = e};
	int rc = nomad_stream(n, index, take_bytes, &r, stop, e);

	buf_release(&r.line);
	if (rc != 0)
		return rc;
	if (r.lines == 0)
		return err_set(e, ERR_DENIED, "Nomad's event stream ended at once: the token may not read it (needs read-job)");
	return err_set(e, ERR_RETRY, "Nomad's event stream ended");
}
