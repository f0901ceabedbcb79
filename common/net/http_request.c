#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/http_json.h"
#include "net/http_server_priv.h"

#define STREAM_BLOCK_BYTES (32 * 1024)
#define RATE_WINDOW_MS 10000
#define DRAIN_MS 2000 /* for the rest of a body after an early answer */
#define RAW_HEAD_MAX 8192

/* --- suspending, resuming, going --- */

static void
on_hangup(uint32_t ready, void *arg)
{
	(void)ready;
	req_drop(arg);
}

void
req_suspend(struct http_req *r)
{
	assert(!r->suspended);
	MHD_suspend_connection(r->mhd);
	r->suspended = true;
	req_rate_stop(r);
	/* libmicrohttpd does not look at the socket now. A client that has more to say is let wait: only its going counts. */
	r->watch = loop_fd_add(r->server->loop, r->conn->fd, EPOLLRDHUP, on_hangup, r);
}

void
req_resume(struct http_req *r)
{
	if (!r->suspended)
		return;
	r->suspended = false;
	loop_fd_remove(r->server->loop, r->watch);
	r->watch = NULL;
	req_rate_start(r);
	MHD_resume_connection(r->mhd);
	server_resumed(r->server);
}

void
req_tell_gone(struct http_req *r)
{
	void (*fn)(void *) = r->gone_fn;

	r->gone_fn = NULL;
	if (fn != NULL)
		fn(r->gone_arg);
}

void
req_drop(struct http_req *r)
{
	if (r->phase == REQ_GONE)
		return;
	r->phase = REQ_GONE;
	req_tell_gone(r);
	/* Reading then ends at once, so that libmicrohttpd notices by itself where it waits for data. */
	shutdown(r->conn->fd, SHUT_RDWR);
	req_resume(r);
}

/* --- the least rate of a body --- */

static int64_t
window_ms(const struct http_req *r)
{
	int64_t idle_ms = r->server->config.idle_timeout_ms;

	return idle_ms < RATE_WINDOW_MS ? idle_ms : RATE_WINDOW_MS;
}

static void
on_rate_due(void *arg)
{
	struct http_req *r = arg;

	if (r->rate_bytes * 1000 >= r->server->config.min_body_bytes_per_s * window_ms(r)) {
		req_rate_start(r);
		return;
	}
	req_tell_gone(r);
	req_fail(r, 408, ERR_TIMEOUT, "the body comes too slowly", NULL);
}

void
req_rate_start(struct http_req *r)
{
	if (r->phase != REQ_BODY || r->body_ended || r->server->config.min_body_bytes_per_s <= 0)
		return;
	r->rate_bytes = 0;
	loop_timer_set(r->server->loop, &r->rate_due, clock_mono_ms() + window_ms(r), on_rate_due, r);
}

void
req_rate_stop(struct http_req *r)
{
	loop_timer_clear(r->server->loop, &r->rate_due);
}

/* --- what the handler asks of a request --- */

const char *
http_method(const struct http_req *r)
{
	return r->method;
}

const char *
http_path(const struct http_req *r)
{
	return r->path;
}

const char *
http_param(const struct http_req *r, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < r->params.n; i++)
		if (r->params.at[i].name_len == len && memcmp(r->params.at[i].name, name, len) == 0)
			return r->params.at[i].value;
	return "";
}

bool
req_add_query(struct http_req *r, const char *name, const char *value)
{
	struct query *q = xcalloc(1, sizeof(*q)), **at = &r->queries;

	q->name = http_decode(name, strlen(name));
	q->value = http_decode(value, strlen(value));
	if (q->name == NULL || q->value == NULL) {
		free(q->name);
		free(q->value);
		free(q);
		return false;
	}
	/* In the order in which they came: the first of several counts. */
	while (*at != NULL)
		at = &(*at)->next;
	*at = q;
	return true;
}

const char *
http_query(const struct http_req *r, const char *name)
{
	for (const struct query *q = r->queries; q != NULL; q = q->next)
		if (strcmp(q->name, name) == 0)
			return q->value;
	return NULL;
}

const char *
http_header(const struct http_req *r, const char *name)
{
	return MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, name);
}

int64_t
http_content_length(const struct http_req *r)
{
	return r->length < 0 && r->body_ended ? 0 : r->length;
}

const char *
http_body(const struct http_req *r, size_t *ret_len)
{
	if (ret_len != NULL)
		*ret_len = r->body.len;
	return buf_str(&r->body);
}

const char *
http_remote(const struct http_req *r)
{
	return r->conn->remote;
}

void
http_set_identity(struct http_req *r, void *identity, void (*free_fn)(void *))
{
	assert(r->free_identity == NULL);
	r->identity = identity;
	r->free_identity = free_fn;
}

void *
http_identity(const struct http_req *r)
{
	return r->identity;
}

void
http_on_gone(struct http_req *r, void (*fn)(void *arg), void *arg)
{
	r->gone_fn = fn;
	r->gone_arg = arg;
}

void
http_read_body(struct http_req *r, size_t (*fn)(struct http_req *r, const void *data, size_t len, void *arg), void *arg)
{
	assert(r->phase == REQ_BODY && r->read_fn == NULL && fn != NULL);
	r->read_fn = fn;
	r->read_arg = arg;
	req_resume(r);
}

void
http_body_resume(struct http_req *r)
{
	if (r->phase != REQ_BODY || !r->read_stuck)
		return;
	r->read_stuck = false;
	req_resume(r);
}

/* --- answers --- */

static void
on_drained_late(void *arg)
{
	req_drop(arg);
}

/* Sends a whole answer past libmicrohttpd, which takes none while a body is on its way. The client may be busy sending
 * and must be able to read the answer before the connection breaks: so the rest of the body is read and dropped for a
 * while. */
static void
reply_early(struct http_req *r, int status, const char *type, const void *data, size_t len, const char *const *headers)
{
	struct buf b = buf_make(RAW_HEAD_MAX + len);
	bool sent;

	buf_addf(&b, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: %zu\r\n", status,
	    MHD_get_reason_phrase_for((unsigned)status), len);
	if (type != NULL)
		buf_addf(&b, "Content-Type: %s\r\n", type);
	for (; headers != NULL && headers[0] != NULL; headers += 2)
		buf_addf(&b, "%s: %s\r\n", headers[0], headers[1]);
	buf_adds(&b, "\r\n");
	if (strcmp(r->method, "HEAD") != 0)
		buf_add(&b, data, len);
	sent = !b.overflow &&
	    send(r->conn->fd, b.data, b.len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)b.len;
	buf_release(&b);
	req_rate_stop(r);
	if (!sent) {
		req_drop(r);
		return;
	}
	shutdown(r->conn->fd, SHUT_WR);
	r->phase = REQ_DRAINED;
	loop_timer_set(r->server->loop, &r->rate_due, clock_mono_ms() + DRAIN_MS, on_drained_late, r);
	req_resume(r);
}

/* Gives a response to libmicrohttpd. */
static void
queue_response(struct http_req *r, struct MHD_Response *response, const char *type, const char *const *headers)
{
	enum MHD_Result ok = MHD_NO;

	if (response != NULL) {
		if (type != NULL)
			MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
		for (; headers != NULL && headers[0] != NULL; headers += 2)
			MHD_add_response_header(response, headers[0], headers[1]);
		ok = MHD_queue_response(r->mhd, (unsigned)r->status, response);
		MHD_destroy_response(response);
	}
	if (ok != MHD_YES)
		req_drop(r);
	else
		req_resume(r);
}

void
http_reply(struct http_req *r, int status, const char *content_type, const void *data, size_t len,
    const char *const *headers)
{
	assert(r->phase < REQ_ANSWERED && r->status == 0);
	r->status = status;
	r->gone_fn = NULL;
	if (!r->body_ended) {
		reply_early(r, status, content_type, data, len, headers);
		return;
	}
	r->phase = REQ_ANSWERED;
	queue_response(r, MHD_create_response_from_buffer(len, (void *)data, MHD_RESPMEM_MUST_COPY), content_type, headers);
}

void
http_reply_json(struct http_req *r, int status, const char *json_text)
{
	http_reply(r, status, "application/json", json_text, strlen(json_text), NULL);
}

static void
reply_error(struct http_req *r, int status, const struct err *e, const char *const *headers)
{
	char *text = http_error_json(e);

	http_reply(r, status, "application/json", text, strlen(text), headers);
	free(text);
}

void
req_fail(struct http_req *r, int status, int code, const char *msg, const char *const *headers)
{
	struct err e;

	err_set(&e, code, "%s", msg);
	reply_error(r, status, &e, headers);
}

void
req_challenge(struct http_req *r, const struct err *e)
{
	static const char *const headers[] = {"WWW-Authenticate", "Bearer", NULL};

	reply_error(r, 401, e, headers);
}

void
http_reply_err(struct http_req *r, const struct err *e)
{
	static const char *const later[] = {"Retry-After", "1", NULL};
	static const struct {
		int code, status;
	} table[] = {
	    {ERR_INVALID, 400},
	    {ERR_DENIED, 403},
	    {ERR_NOTFOUND, 404},
	    {ERR_CONFLICT, 409},
	    {ERR_TOOBIG, 413},
	    {ERR_TIMEOUT, 408},
	    {ERR_RETRY, 503},
	};
	int status = 500;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].code == e->code)
			status = table[i].status;
	reply_error(r, status, e, status == 503 ? later : NULL);
}

/* --- streamed answers --- */

/* libmicrohttpd asks for more of the answer. */
static ssize_t
on_more(void *arg, uint64_t pos, char *to, size_t room)
{
	struct http_req *r = arg;
	size_t len = r->out.len - r->out_pos;

	(void)pos;
	if (r->phase == REQ_GONE)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (len == 0 && r->out_ended)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (len == 0) {
		req_suspend(r);
		return 0;
	}
	if (len > room)
		len = room;
	memcpy(to, r->out.data + r->out_pos, len);
	r->out_pos += len;
	if (r->out_pos == r->out.len) {
		buf_clear(&r->out);
		r->out_pos = 0;
	}
	if (r->out_refused && r->out.len - r->out_pos < r->out.max / 2) {
		r->out_refused = false;
		if (r->on_room != NULL)
			r->on_room(r, r->room_arg);
	}
	return (ssize_t)len;
}

void
http_stream_begin(struct http_req *r, int status, const char *content_type, int64_t size, const char *const *headers,
    void (*on_room)(struct http_req *r, void *arg), void *arg)
{
	assert(r->phase < REQ_ANSWERED && r->status == 0 && r->body_ended);
	r->status = status;
	r->phase = REQ_STREAM;
	r->on_room = on_room;
	r->room_arg = arg;
	queue_response(r,
	    MHD_create_response_from_callback(size < 0 ? MHD_SIZE_UNKNOWN : (uint64_t)size, STREAM_BLOCK_BYTES, on_more, r, NULL),
	    content_type, headers);
}

int
http_stream_write(struct http_req *r, const void *data, size_t len)
{
	if (r->phase == REQ_GONE)
		return ERR_CANCELED;
	assert(r->phase == REQ_STREAM && !r->out_ended);
	if (len > r->out.max - (r->out.len - r->out_pos)) {
		r->out_refused = true;
		return ERR_RETRY;
	}
	if (r->out_pos > r->out.max / 2 || len > r->out.max - r->out.len) {
		buf_consume(&r->out, r->out_pos);
		r->out_pos = 0;
	}
	buf_add(&r->out, data, len);
	req_resume(r);
	return 0;
}

void
http_stream_end(struct http_req *r)
{
	if (r->phase == REQ_GONE)
		return;
	assert(r->phase == REQ_STREAM && !r->out_ended);
	r->out_ended = true;
	r->gone_fn = NULL;
	r->on_room = NULL; /* a write that was refused before may have been made up for; its writer is gone now */
	req_resume(r);
}
