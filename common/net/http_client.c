#include "net/http_client.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>
#include <pthread.h>

#include "base/clock.h"
#include "base/mem.h"

#define CONNECT_TIMEOUT_MS 5000
#define STALL_MS 60000
#define STOP_CHECK_MS 150            /* a set stop flag is promised to be noticed within 200 ms */
#define IDLE_CHECK_MS 1000
#define BULK_BUFFER_BYTES (512L * 1024)
#define DROPPED_MAX_BYTES (1024 * 1024) /* of a body that nobody wants */

struct http_client {
	struct http_tls tls;        /* zeroed: none */
	CURLM *multi;               /* holds the connection between calls */
	CURL *easy;
	char detail[CURL_ERROR_SIZE];

	/* of the call that is under way */
	struct http_call *call;
	size_t body_pos;      /* of a body in memory */
	size_t dropped_bytes;
	unsigned tries;       /* requests begun, see on_request */
	int rc;               /* why a callback of ours broke it off; 0: none did */
	const char *why;
};

static void
init_curl(void)
{
	/* Fails without memory only. */
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		abort();
}

struct http_client *
http_client_new(const struct http_tls *tls)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct http_client *c = xcalloc(1, sizeof(*c));

	pthread_once(&once, init_curl);
	if (tls != NULL)
		c->tls = *tls;
	c->multi = curl_multi_init();
	c->easy = curl_easy_init();
	if (c->multi == NULL || c->easy == NULL)
		abort();
	curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, 1L);
	return c;
}

void
http_client_free(struct http_client *c)
{
	if (c == NULL)
		return;
	curl_easy_cleanup(c->easy);
	curl_multi_cleanup(c->multi);
	free(c);
}

/* --- callbacks of libcurl --- */

/* Remembers why the call is broken off; the first reason counts. */
static void
break_off(struct http_client *c, int rc, const char *why)
{
	if (c->rc != 0)
		return;
	c->rc = rc;
	c->why = why;
}

static bool
stopped(const struct http_call *call)
{
	return call->stop != NULL && atomic_load_explicit(call->stop, memory_order_relaxed);
}

static size_t
on_read(char *out, size_t size, size_t n, void *arg)
{
	struct http_client *c = arg;
	struct http_call *call = c->call;
	size_t room = size * n;
	long got;

	if (call->read_fn != NULL) {
		got = call->read_fn(call->arg, out, room);
		if (got >= 0 && (size_t)got <= room)
			return (size_t)got;
		break_off(c, ERR_CANCELED, "the source of the body gave up");
		return CURL_READFUNC_ABORT;
	}
	if (room > call->body_len - c->body_pos)
		room = call->body_len - c->body_pos;
	if (room > 0)
		memcpy(out, (const char *)call->body + c->body_pos, room);
	c->body_pos += room;
	return room;
}

/* Asked when a request has to be sent again on a fresh connection. */
static int
on_seek(void *arg, curl_off_t offset, int origin)
{
	struct http_client *c = arg;

	if (c->call->read_fn != NULL || origin != SEEK_SET || offset < 0 || (size_t)offset > c->call->body_len)
		return CURL_SEEKFUNC_CANTSEEK;
	c->body_pos = (size_t)offset;
	return CURL_SEEKFUNC_OK;
}

static int
take_body(struct http_client *c, long status, const char *data, size_t len)
{
	struct http_call *call = c->call;

	if (call->write_fn != NULL && status >= 200 && status < 300) {
		int rc = call->write_fn(call->arg, data, len);

		if (rc != 0)
			break_off(c, rc <= ERR_INVALID && rc >= ERR_CANCELED ? rc : ERR_CANCELED,
			    "the taker of the body gave up");
		return rc;
	}
	if (call->out == NULL) {
		c->dropped_bytes += len;
		if (c->dropped_bytes <= DROPPED_MAX_BYTES)
			return 0;
	} else if (buf_add(call->out, data, len) == 0) {
		return 0;
	}
	break_off(c, ERR_TOOBIG, "the answer is longer than allowed");
	return ERR_TOOBIG;
}

static size_t
on_write(char *data, size_t size, size_t n, void *arg)
{
	struct http_client *c = arg;
	long status = 0;

	if (stopped(c->call)) {
		break_off(c, ERR_CANCELED, "stopped");
		return 0;
	}
	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	return take_body(c, status, data, size * n) == 0 ? size * n : 0;
}

/* Shows a header to the caller's header_fn, unless it belongs to an interim answer; over-long ones are cut. */
static void
show_header(struct http_client *c, const char *name, size_t name_len, const char *value, size_t value_len)
{
	char text[4096];
	long status = 0;

	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	if (c->call->header_fn == NULL || status < 200 || name_len + 2 > sizeof(text))
		return;
	snprintf(text, sizeof(text), "%.*s%c%.*s", (int)name_len, name, '\0', (int)value_len, value);
	c->call->header_fn(c->call->arg, text, text + name_len + 1);
}

/* Fills in the wanted response headers. A status line starts anew: what a "100 Continue" carried does not count. */
static size_t
on_header(char *data, size_t size, size_t n, void *arg)
{
	struct http_call *call = ((struct http_client *)arg)->call;
	size_t len = size * n, name_len, from;

	if (len >= 5 && memcmp(data, "HTTP/", 5) == 0)
		for (size_t i = 0; i < call->n_want; i++)
			call->want[i].value[0] = '\0';
	for (name_len = 0; name_len < len && data[name_len] != ':'; name_len++)
		;
	if (name_len == len)
		return len;
	for (from = name_len + 1; from < len && (data[from] == ' ' || data[from] == '\t'); from++)
		;
	for (; len > from && strchr("\r\n \t", data[len - 1]) != NULL; len--)
		;
	for (size_t i = 0; i < call->n_want; i++) {
		struct http_header *h = &call->want[i];

		if (strlen(h->name) == name_len && strncasecmp(h->name, data, name_len) == 0)
			snprintf(h->value, sizeof(h->value), "%.*s", (int)(len - from), data + from);
	}
	show_header(arg, data, name_len, data + from, len - from);
	return size * n;
}

/* Called before each time that the request is sent. libcurl sends it again on a fresh connection when the kept one turns
 * out to be dead, whatever the method; we allow that once, and only where it cannot do a thing twice. */
static int
on_request(void *arg, char *to, char *from, int to_port, int from_port)
{
	static const char *const repeatable[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"};
	struct http_client *c = arg;
	long sent_bytes = 0;

	(void)to, (void)from, (void)to_port, (void)from_port;
	if (++c->tries == 1)
		return CURL_PREREQFUNC_OK;
	curl_easy_getinfo(c->easy, CURLINFO_REQUEST_SIZE, &sent_bytes);
	if (c->tries == 2 && c->call->read_fn == NULL) {
		if (sent_bytes == 0)
			return CURL_PREREQFUNC_OK;
		for (size_t i = 0; i < sizeof(repeatable) / sizeof(repeatable[0]); i++)
			if (strcmp(c->call->method, repeatable[i]) == 0)
				return CURL_PREREQFUNC_OK;
	}
	break_off(c, sent_bytes > 0 ? ERR_IO : ERR_RETRY, "the kept connection was closed by the server");
	return CURL_PREREQFUNC_ABORT;
}

/* --- setting a call up --- */

/* Has the URL name server_name, so that TLS asks for and checks that name, while the connection and the Host header stay
 * with the host of the URL. Returns the lists through the pointers; false for a bad URL. */
static bool
set_server_name(struct http_client *c, struct curl_slist **headers, struct curl_slist **connect_to)
{
	CURLU *u = curl_url();
	char *scheme = NULL, *host = NULL, *port = NULL, *url = NULL, *line;
	bool ok = false;

	if (u == NULL || curl_url_set(u, CURLUPART_URL, c->call->url, CURLU_PATH_AS_IS) != CURLUE_OK ||
	    curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
	    curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
	    curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK)
		goto out;
	ok = true;
	if (strcmp(scheme, "https") != 0)
		goto out;
	ok = curl_url_set(u, CURLUPART_HOST, c->tls.server_name, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_URL, &url, 0) == CURLUE_OK;
	if (!ok)
		goto out;
	line = xasprintf("Host: %s:%s", host, port);
	*headers = curl_slist_append(*headers, line);
	free(line);
	line = xasprintf("::%s:%s", host, port);
	*connect_to = curl_slist_append(*connect_to, line);
	free(line);
	curl_easy_setopt(c->easy, CURLOPT_URL, url);
	curl_easy_setopt(c->easy, CURLOPT_CONNECT_TO, *connect_to);
out:
	curl_free(url);
	curl_free(port);
	curl_free(host);
	curl_free(scheme);
	curl_url_cleanup(u);
	return ok;
}

static void
set_tls(CURL *h, const struct http_tls *tls)
{
	const struct {
		CURLoption option;
		const char *value;
	} files[] = {
	    {CURLOPT_CAINFO, tls->ca_cert},
	    {CURLOPT_CAPATH, tls->ca_path},
	    {CURLOPT_SSLCERT, tls->client_cert},
	    {CURLOPT_SSLKEY, tls->client_key},
	};

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (files[i].value != NULL && files[i].value[0] != '\0')
			curl_easy_setopt(h, files[i].option, files[i].value);
	if (tls->skip_verify) {
		curl_easy_setopt(h, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(h, CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

/* What holds for every call. */
static void
set_common(struct http_client *c)
{
	CURL *h = c->easy;

	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_ERRORBUFFER, c->detail);
	curl_easy_setopt(h, CURLOPT_PROXY, "");
	curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L); /* keys of objects may hold dots */
	curl_easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(h, CURLOPT_USERAGENT, "drover/" DROVER_VERSION);
	curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(h, CURLOPT_HEADERDATA, c);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_write);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(h, CURLOPT_PREREQFUNCTION, on_request);
	curl_easy_setopt(h, CURLOPT_PREREQDATA, c);
}

static void
set_body(struct http_client *c)
{
	const struct http_call *call = c->call;
	bool wants_body = strcmp(call->method, "POST") == 0 || strcmp(call->method, "PUT") == 0;
	CURL *h = c->easy;

	if (strcmp(call->method, "HEAD") == 0) {
		curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
		return;
	}
	if (call->read_fn != NULL || call->body != NULL || wants_body) {
		int64_t size = call->read_fn != NULL ? call->body_size : (int64_t)call->body_len;

		curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t)size);
		curl_easy_setopt(h, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(h, CURLOPT_READDATA, c);
		curl_easy_setopt(h, CURLOPT_SEEKFUNCTION, on_seek);
		curl_easy_setopt(h, CURLOPT_SEEKDATA, c);
		if (size < 0 || size > BULK_BUFFER_BYTES)
			curl_easy_setopt(h, CURLOPT_UPLOAD_BUFFERSIZE, BULK_BUFFER_BYTES);
	}
	curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, call->method);
	/* The default buffer is small, which costs a third of the speed; a large one for every small call costs memory. */
	if (call->write_fn != NULL)
		curl_easy_setopt(h, CURLOPT_BUFFERSIZE, BULK_BUFFER_BYTES);
}

/* To libcurl "Name:" means to leave that header out; one that is empty, and perhaps signed so, is written "Name;". */
static struct curl_slist *
add_header(struct curl_slist *list, const char *line)
{
	size_t name_len = strcspn(line, ":");
	struct curl_slist *longer;
	char *empty;

	if (line[name_len] != ':' || line[name_len + 1 + strspn(line + name_len + 1, " ")] != '\0')
		return curl_slist_append(list, line);
	empty = xasprintf("%.*s;", (int)name_len, line);
	longer = curl_slist_append(list, empty);
	free(empty);
	return longer;
}

static bool
set_up(struct http_client *c, struct curl_slist **headers, struct curl_slist **connect_to)
{
	const struct http_call *call = c->call;
	CURL *h = c->easy;

	curl_easy_reset(h);
	set_common(c);
	curl_easy_setopt(h, CURLOPT_URL, call->url);
	if (call->unix_socket != NULL && call->unix_socket[0] != '\0')
		curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, call->unix_socket);
	set_body(c);
	*headers = curl_slist_append(NULL, "Expect:");
	for (const char *const *s = call->headers; s != NULL && *s != NULL; s++)
		*headers = add_header(*headers, *s);
	set_tls(h, &c->tls);
	if (c->tls.server_name != NULL && c->tls.server_name[0] != '\0' && !set_server_name(c, headers, connect_to))
		return false;
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, *headers);
	curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS,
	    (long)(call->connect_timeout_ms > 0 ? call->connect_timeout_ms : CONNECT_TIMEOUT_MS));
	if (call->timeout_ms > 0)
		curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)call->timeout_ms);
	return true;
}

/* --- performing it --- */

/* Bytes of the call in both directions until now: when it does not change, the call stalls. */
static int64_t
traffic_bytes(CURL *h)
{
	curl_off_t up = 0, down = 0;
	long request = 0, header = 0;

	curl_easy_getinfo(h, CURLINFO_SIZE_UPLOAD_T, &up);
	curl_easy_getinfo(h, CURLINFO_SIZE_DOWNLOAD_T, &down);
	curl_easy_getinfo(h, CURLINFO_REQUEST_SIZE, &request);
	curl_easy_getinfo(h, CURLINFO_HEADER_SIZE, &header);
	return up + down + request + header;
}

static CURLcode
result_of(struct http_client *c)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(c->multi, &left)) != NULL)
		if (m->msg == CURLMSG_DONE && m->easy_handle == c->easy)
			return m->data.result;
	return CURLE_RECV_ERROR;
}

/* Our own loop around the multi interface, because the easy one notices a stop flag only once in a second. */
static CURLcode
run(struct http_client *c)
{
	const struct http_call *call = c->call;
	int64_t stall_ms = call->stall_ms > 0 ? call->stall_ms : STALL_MS;
	int64_t moved_mono_ms = clock_mono_ms(), enough = call->stall_bytes > 0 ? call->stall_bytes : 1, bytes = -enough;
	int running = 1;

	while (!stopped(call)) {
		int64_t now_mono_ms, seen, wait_ms = call->stop != NULL ? STOP_CHECK_MS : IDLE_CHECK_MS;

		if (curl_multi_perform(c->multi, &running) != CURLM_OK)
			return CURLE_RECV_ERROR;
		if (running == 0)
			return result_of(c);
		/* Read after perform: time that our callbacks took is no stall. */
		now_mono_ms = clock_mono_ms();
		seen = traffic_bytes(c->easy);
		if (seen - bytes >= enough) {
			bytes = seen;
			moved_mono_ms = now_mono_ms;
		}
		if (now_mono_ms - moved_mono_ms >= stall_ms) {
			break_off(c, ERR_TIMEOUT, "no data came or went for too long");
			return CURLE_OPERATION_TIMEDOUT;
		}
		if (wait_ms > moved_mono_ms + stall_ms - now_mono_ms)
			wait_ms = moved_mono_ms + stall_ms - now_mono_ms;
		curl_multi_poll(c->multi, NULL, 0, (int)wait_ms, NULL);
	}
	break_off(c, ERR_CANCELED, "stopped");
	return CURLE_ABORTED_BY_CALLBACK;
}

static int
code_of(CURLcode rc, bool sent)
{
	/* Unless told otherwise, a failure before anything was sent can be tried again, one after is of unknown effect. */
	static const struct {
		CURLcode rc;
		int unsent, sent;
	} table[] = {
	    {CURLE_URL_MALFORMAT, ERR_INVALID, ERR_INVALID},
	    {CURLE_UNSUPPORTED_PROTOCOL, ERR_INVALID, ERR_PROTO}, /* sent: an answer that is not HTTP/1 */
	    {CURLE_BAD_FUNCTION_ARGUMENT, ERR_INVALID, ERR_INVALID},
	    {CURLE_PEER_FAILED_VERIFICATION, ERR_DENIED, ERR_DENIED},
	    {CURLE_SSL_CACERT_BADFILE, ERR_DENIED, ERR_DENIED},
	    {CURLE_SSL_CERTPROBLEM, ERR_DENIED, ERR_DENIED},
	    {CURLE_SSL_ISSUER_ERROR, ERR_DENIED, ERR_DENIED},
	    {CURLE_OPERATION_TIMEDOUT, ERR_RETRY, ERR_TIMEOUT},
	    {CURLE_WEIRD_SERVER_REPLY, ERR_PROTO, ERR_PROTO},
	    {CURLE_BAD_CONTENT_ENCODING, ERR_PROTO, ERR_PROTO},
	    {CURLE_OUT_OF_MEMORY, ERR_PROTO, ERR_PROTO}, /* so libcurl calls headers that are too long */
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].rc == rc)
			return sent ? table[i].sent : table[i].unsent;
	return sent ? ERR_IO : ERR_RETRY;
}

/* Turns the result into an error; the query is left out of the message, as it may hold a signature. */
static int
explain(struct http_client *c, CURLcode rc, struct err *e)
{
	const struct http_call *call = c->call;
	const char *what = c->rc != 0 ? c->why : c->detail[0] != '\0' ? c->detail : curl_easy_strerror(rc);
	long sent_bytes = 0;
	int code;

	if (rc == CURLE_OK)
		return 0;
	curl_easy_getinfo(c->easy, CURLINFO_REQUEST_SIZE, &sent_bytes);
	code = c->rc != 0 ? c->rc : code_of(rc, sent_bytes > 0);
	return err_set(e, code, "%s %.*s: %s", call->method, (int)strcspn(call->url, "?"), call->url, what);
}

int
http_perform(struct http_client *c, struct http_call *call, struct err *e)
{
	struct curl_slist *headers = NULL, *connect_to = NULL;
	curl_off_t sent_bytes = 0;
	CURLcode rc = CURLE_URL_MALFORMAT;
	long status = 0;
	int ret;

	assert(call->n_want <= sizeof(call->want) / sizeof(call->want[0]));
	c->call = call;
	c->body_pos = c->dropped_bytes = 0;
	c->tries = 0;
	c->rc = 0;
	c->detail[0] = '\0';
	call->status = 0;
	for (size_t i = 0; i < call->n_want; i++)
		call->want[i].value[0] = '\0';

	if (set_up(c, &headers, &connect_to)) {
		curl_multi_add_handle(c->multi, c->easy);
		rc = run(c);
		/* Taken out before the end, a transfer closes its connection: what is left of the answer cannot be mistaken. */
		curl_multi_remove_handle(c->multi, c->easy);
	}
	curl_easy_getinfo(c->easy, CURLINFO_SIZE_UPLOAD_T, &sent_bytes);
	call->sent_bytes = sent_bytes;
	ret = explain(c, rc, e);
	if (ret == 0) {
		curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
		call->status = (int)status;
	}
	curl_slist_free_all(headers);
	curl_slist_free_all(connect_to);
	c->call = NULL;
	return ret;
}
