#include "base/fault.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/num.h"

#define NAME_BYTES 64

static pthread_once_t read_once = PTHREAD_ONCE_INIT;
static bool armed;
static char armed_name[NAME_BYTES];
static char environment[2 * NAME_BYTES];
static atomic_llong passes_left; /* of the armed place; the one that takes it to 0 dies */

/* A fault that is named wrongly must not let a test pass in silence: the program says so and stops. */
static void
refuse(const char *spec)
{
	log_error(NULL, "DROVER_FAULT=%s is not name or name:count", spec);
	abort();
}

static void
read_environment(void)
{
	const char *spec = getenv("DROVER_FAULT");
	int64_t count = 1;
	size_t len;

	if (spec == NULL || spec[0] == '\0')
		return;
	len = strcspn(spec, ":");
	if (len == 0 || len >= sizeof(armed_name) ||
	    (spec[len] == ':' && num_int(spec + len + 1, 1, INT32_MAX, &count, NULL) != 0))
		refuse(spec);
	memcpy(armed_name, spec, len);
	(void)snprintf(environment, sizeof(environment), "DROVER_FAULT=%s", spec);
	atomic_store(&passes_left, count);
	armed = true;
}

void
fault_point(const char *name)
{
	pthread_once(&read_once, read_environment);
	if (!armed || strcmp(name, armed_name) != 0)
		return;
	if (atomic_fetch_sub(&passes_left, 1) == 1)
		raise(SIGKILL); /* not kill(): confined processes may not */
}

const char *
fault_environment(void)
{
	pthread_once(&read_once, read_environment);
	return armed ? environment : NULL;
}
