/* A tool's report: whatever it is, what comes out is taken again, and tells nothing of the host. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/sarif.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const prefixes[] = {"/drover/target", NULL};

static bool
line_of(void *arg, const char *path, int64_t line, char *out, size_t len)
{
	(void)arg;
	(void)path;
	if (line > 3)
		return false;
	snprintf(out, len, "line %d", (int)line);
	return true;
}

/* Whether a name is a URI of some scheme, which no reader takes for a path. */
static bool
has_scheme(const char *uri)
{
	return uri[strcspn(uri, ":/")] == ':';
}

/* File names of results stay below the target. */
static void
check_uris(const json_t *v)
{
	const char *key, *uri;
	json_t *below;
	size_t i;

	json_array_foreach(v, i, below)
		check_uris(below);
	json_object_foreach((json_t *)v, key, below)
	{
		uri = strcmp(key, "artifactLocation") == 0 ? json_string_value(json_object_get(below, "uri")) : NULL;
		if (uri != NULL && !has_scheme(uri) && (uri[0] == '/' || strncmp(uri, "../", 3) == 0 || strstr(uri, "/../") != NULL))
			abort();
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sarif_context c = {.step = "scan", .prefixes = prefixes, .line_of = line_of};
	struct sarif_counts first = {.total = 0}, second = {.total = 0};
	json_t *out = NULL, *again = NULL, *run, *result;
	struct err e = {0};
	char *text;
	size_t i, k;

	if (sarif_normalise(&c, (const char *)data, size, &out, &first, &e) != 0)
		return 0;
	json_array_foreach(json_object_get(out, "runs"), i, run)
	{
		json_array_foreach(json_object_get(run, "results"), k, result)
		{
			json_t *location;
			size_t n;

			json_array_foreach(json_object_get(result, "locations"), n, location)
				check_uris(json_object_get(location, "physicalLocation"));
		}
	}
	text = json_dumps(out, JSON_COMPACT);
	if (text == NULL || sarif_normalise(&c, text, strlen(text), &again, &second, &e) != 0 || first.total != second.total ||
	    first.error != second.error || sarif_says_failed(out) != sarif_says_failed(again))
		abort();
	free(text);
	json_decref(out);
	json_decref(again);
	return 0;
}
