/* discover.c - finding a service through a real Consul: it moves, it goes, Consul dies, and comes back without memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cluster/consul_entry.h"
#include "cluster/discover.h"
#include "net/http_client.h"
#include "nomad_agent.h" /* ports, private directory, waiting */

#define CONSUL_VERSION "consul-1.22.7"
#define WAIT_MS 40000
#define ENDPOINT_LEN 256
#define QUICK_MS 8000 /* a query blocks for a minute: it was answered, or ended, before its time */

static struct {
	char dir[200], address[40];
	int ports[4];
	pid_t pid;
} consul;

static struct consul_config config = {.addr = consul.address};

static void
consul_start(void)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char binary[PATH_MAX], ports[4][40], log[PATH_MAX];
	int fd;

	if (cache != NULL && cache[0] != '\0')
		snprintf(binary, sizeof(binary), "%s/drover/servers/" CONSUL_VERSION, cache);
	else
		snprintf(binary, sizeof(binary), "%s/.cache/drover/servers/" CONSUL_VERSION, home != NULL ? home : "/root");
	snprintf(ports[0], sizeof(ports[0]), "-http-port=%d", consul.ports[0]);
	snprintf(ports[1], sizeof(ports[1]), "-serf-lan-port=%d", consul.ports[1]);
	snprintf(ports[2], sizeof(ports[2]), "-serf-wan-port=%d", consul.ports[2]);
	snprintf(ports[3], sizeof(ports[3]), "-server-port=%d", consul.ports[3]);
	snprintf(log, sizeof(log), "%s/log", consul.dir);
	consul.pid = fork();
	if (consul.pid != 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	dup2(fd, 1);
	dup2(fd, 2);
	/* In memory: once killed it knows nothing, and its indexes begin anew. */
	execl(binary, "consul", "agent", "-dev", "-bind=127.0.0.1", "-node=here", "-dns-port=-1", "-grpc-port=-1", "-grpc-tls-port=-1",
	    ports[0], ports[1], ports[2], ports[3], (char *)NULL);
	_exit(127);
}

static void
pause_between(void)
{
	struct timespec t = {.tv_nsec = 20000000};

	nanosleep(&t, NULL);
}

/* One call to Consul; its status, 0 without an answer, and what it said in out. */
static int
call(const char *method, const char *path, const char *body, struct buf *out)
{
	struct http_client *h = http_client_new(NULL);
	char *url = xasprintf("http://%s%s", consul.address, path);
	struct http_call c = {.method = method, .url = url, .body = body, .body_len = strlen(body), .out = out, .timeout_ms = 5000};
	int rc = http_perform(h, &c, NULL);

	free(url);
	http_client_free(h);
	return rc == 0 ? c.status : 0;
}

static int
put(const char *path, const char *body)
{
	struct buf out = buf_make(1 << 20);
	int status = call("PUT", path, body, &out);

	buf_release(&out);
	return status;
}

static void
place(const char *service, int port)
{
	char *body = xasprintf("{\"Name\":\"%s\",\"ID\":\"%s\",\"Address\":\"127.0.0.1\",\"Port\":%d}", service, service, port);
	int64_t until = clock_mono_ms() + WAIT_MS;
	int status;

	while ((status = put("/v1/agent/service/register", body)) != 200 && clock_mono_ms() < until)
		pause_between(); /* it starts */
	assert_int_equal(status, 200);
	free(body);
}

/* Waits until the pick is that URL; how long it took, in ms. */
static int64_t
wait_pick(struct discover *d, const char *want)
{
	int64_t begun = clock_mono_ms();
	char url[ENDPOINT_LEN] = "";
	struct err e = {0};

	while (clock_mono_ms() - begun < WAIT_MS) {
		if (discover_pick(d, 1000, url, sizeof(url), &e) == 0 && strcmp(url, want) == 0)
			return clock_mono_ms() - begun;
		pause_between();
	}
	fail_msg("picked '%s', wanted '%s': %s", url, want, e.msg);
	return -1;
}

static struct discover *
watch(const char *spec)
{
	struct discover *d = NULL;
	struct err e = {0};

	if (discover_new(spec, &config, NULL, "here", &d, &e) != 0)
		fail_msg("%s", e.msg);
	return d;
}

static void
an_unknown_service_says_so_and_is_met_when_it_comes(void **state)
{
	struct discover *d = watch("consul://late");
	char url[ENDPOINT_LEN];
	struct err e = {0};

	(void)state;
	assert_int_equal(discover_pick(d, 500, url, sizeof(url), &e), ERR_RETRY);
	assert_non_null(strstr(e.msg, "no healthy instance of service 'late'"));
	place("late", 9001);
	assert_true(wait_pick(d, "http://127.0.0.1:9001") < QUICK_MS);
	discover_free(d);
}

static void
a_service_that_moves_is_followed_at_once(void **state)
{
	struct discover *d;

	(void)state;
	place("moves", 9001);
	d = watch("consul://moves?scheme=https");
	(void)wait_pick(d, "https://127.0.0.1:9001");
	place("moves", 9002);
	assert_true(wait_pick(d, "https://127.0.0.1:9002") < QUICK_MS);
	discover_free(d);
}

static void
the_last_good_list_outlives_the_service_and_consul(void **state)
{
	struct discover *d;
	char url[ENDPOINT_LEN];

	(void)state;
	place("stays", 9001);
	d = watch("consul://stays");
	(void)wait_pick(d, "http://127.0.0.1:9001");
	assert_int_equal(put("/v1/agent/service/deregister/stays", ""), 200);
	place("stays-not", 1); /* the catalogue has moved on */
	assert_int_equal(discover_pick(d, 500, url, sizeof(url), NULL), 0);
	assert_string_equal(url, "http://127.0.0.1:9001");
	agent_kill(&consul.pid, SIGKILL);
	assert_int_equal(discover_pick(d, 500, url, sizeof(url), NULL), 0);
	assert_string_equal(url, "http://127.0.0.1:9001");
	/* A Consul without memory: its indexes are below the one that we wait for. */
	consul_start();
	place("stays", 9003);
	(void)wait_pick(d, "http://127.0.0.1:9003");
	place("stays", 9004);
	assert_true(wait_pick(d, "http://127.0.0.1:9004") < QUICK_MS);
	discover_free(d);
}

static void
our_own_registration_is_found_once_its_check_passes(void **state)
{
	struct discover *d = watch("consul://drover-dispatcher");
	char *check = xasprintf("http://%s/v1/status/leader", consul.address);
	struct err e = {0};

	(void)state;
	place("other", 1); /* Consul is there */
	if (consul_register(&config, "drover-dispatcher", "d-1", "127.0.0.1", 8700, check, &e) != 0)
		fail_msg("%s", e.msg);
	(void)wait_pick(d, "http://127.0.0.1:8700");
	assert_int_equal(consul_deregister(&config, "d-1", &e), 0);
	free(check);
	discover_free(d);
}

static struct loop *loop;
static int told;

static void
announced(const char *id, const struct err *e)
{
	assert_string_equal(id, "program-1");
	told = e->code;
	loop_stop(loop);
}

/* Whether Consul has it, with that address and port. */
static bool
has_entry(const char *address, int port)
{
	char want[2][80];
	struct buf out = buf_make(1 << 20);
	bool there = call("GET", "/v1/agent/service/program-1", "", &out) == 200;

	snprintf(want[0], sizeof(want[0]), "\"Address\": \"%s\"", address);
	snprintf(want[1], sizeof(want[1]), "\"Port\": %d", port);
	if (there && (strstr(buf_str(&out), want[0]) == NULL || strstr(buf_str(&out), want[1]) == NULL))
		fail_msg("wanted %s and %s: %s", want[0], want[1], buf_str(&out));
	buf_release(&out);
	return there;
}

static void
an_entry_is_where_others_reach_it_until_the_program_ends(void **state)
{
	static const struct {
		const char *advertise, *bound, *address;
		int port;
	} cases[] = {
		{"", "127.0.0.1:8700", "127.0.0.1", 8700},
		{"10.0.0.7:1", "127.0.0.1:8700", "10.0.0.7", 1},
		{"http://drover.example:443", "127.0.0.1:8700", "drover.example", 443},
		{"https://[fe80::1]:65535", "127.0.0.1:8700", "fe80::1", 65535},
		{"", "[::1]:8700", "::1", 8700},
		{"https://drover.example", "127.0.0.1:8700", "127.0.0.1", 8700},
		{"consul://drover", "127.0.0.1:8700", "127.0.0.1", 8700},
		{"10.0.0.7:65536", "127.0.0.1:8700", "127.0.0.1", 8700},
	};
	struct consul_entry_config what = {.consul = config, .service = "program", .id = "program-1", .told = announced};
	int64_t until = clock_mono_ms() + WAIT_MS;
	struct consul_entry *a;

	(void)state;
	place("other", 1); /* Consul is there */
	loop = loop_new(NULL);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		what.advertise = cases[i].advertise;
		what.bound = cases[i].bound;
		a = consul_entry_new(loop, &what);
		assert_non_null(a);
		told = 1;
		loop_run(loop);
		assert_int_equal(told, 0);
		assert_true(has_entry(cases[i].address, cases[i].port));
		consul_entry_free(a);
		assert_false(has_entry("", 0));
	}
	what.advertise = "";
	what.bound = cases[0].bound;
	/* One that ends before it has heard that it was registered leaves nothing either. */
	a = consul_entry_new(loop, &what);
	while (!has_entry(cases[0].address, cases[0].port) && clock_mono_ms() < until)
		pause_between();
	consul_entry_free(a);
	assert_true(clock_mono_ms() < until);
	assert_false(has_entry("", 0));
	what.bound = "nowhere";
	assert_null(consul_entry_new(loop, &what));
	assert_int_equal(told, ERR_INVALID);
	what.consul.addr = "";
	assert_null(consul_entry_new(loop, &what));
	loop_free(loop);
}

static void
a_watcher_ends_quickly_in_the_middle_of_a_query(void **state)
{
	struct discover *d;
	int64_t begun;

	(void)state;
	place("ends", 9001);
	d = watch("consul://ends");
	(void)wait_pick(d, "http://127.0.0.1:9001");
	begun = clock_mono_ms();
	discover_free(d);
	assert_true(clock_mono_ms() - begun < QUICK_MS);
}

static int
start(void **state)
{
	(void)state;
	if (file_temp_dir("drover-consul", consul.dir, sizeof(consul.dir), NULL) != 0)
		return -1;
	for (size_t i = 0; i < 4; i++)
		consul.ports[i] = free_port();
	snprintf(consul.address, sizeof(consul.address), "127.0.0.1:%d", consul.ports[0]);
	consul_start();
	return 0;
}

static int
stop(void **state)
{
	(void)state;
	agent_kill(&consul.pid, SIGKILL);
	(void)file_remove_tree(AT_FDCWD, consul.dir, NULL);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(our_own_registration_is_found_once_its_check_passes),
		cmocka_unit_test(an_entry_is_where_others_reach_it_until_the_program_ends),
		cmocka_unit_test(an_unknown_service_says_so_and_is_met_when_it_comes),
		cmocka_unit_test(a_service_that_moves_is_followed_at_once),
		cmocka_unit_test(a_watcher_ends_quickly_in_the_middle_of_a_query),
		cmocka_unit_test(the_last_good_list_outlives_the_service_and_consul),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
