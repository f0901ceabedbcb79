#include "cli/run_filter.h"

#include "base/clock.h"
#include "base/num.h"

#define AGE_MAX_MS (INT64_C(1000) * 86400 * 3650)

/* "2h" becomes the time two hours ago; a time stays. */
static int
read_moment(const char *option, const char *text, char out[CLOCK_TEXT_LEN], struct err *e)
{
	int64_t ms, at;

	if (num_duration(text, 0, AGE_MAX_MS, &ms, NULL) == 0)
		at = clock_real_ms() - ms;
	else if (clock_parse(text, &at, NULL) != 0)
		return err_set(e, ERR_INVALID, "-%s: '%.40s' is neither a time (2026-01-31T12:00:00Z) nor a duration (2h)", option,
		    text);
	(void)clock_text(at, out);
	return 0;
}

int
run_filter_read(const struct args *a, json_t *filter, struct err *e)
{
	static const char *const texts[] = {"state", "workflow", "vertical", "target", "label"}, *const moments[] = {"since", "until"};
	char at[CLOCK_TEXT_LEN];
	int rc;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (args_value(a, texts[i]) != NULL && json_object_set_new(filter, texts[i], json_string(args_value(a, texts[i]))) != 0)
			return err_set(e, ERR_INVALID, "-%s: not UTF-8", texts[i]);
	for (size_t i = 0; i < sizeof(moments) / sizeof(moments[0]); i++) {
		if (args_value(a, moments[i]) == NULL)
			continue;
		if ((rc = read_moment(moments[i], args_value(a, moments[i]), at, e)) != 0)
			return rc;
		(void)json_object_set_new(filter, moments[i], json_string(at));
	}
	if (args_has(a, "dead"))
		(void)json_object_set_new(filter, "dead", json_string("true"));
	return 0;
}
