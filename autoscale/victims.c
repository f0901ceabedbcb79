#include "autoscale/victims.h"

#include <stdio.h>
#include <string.h>

#include "base/num.h"

int64_t
victims_index(const char *name)
{
	const char *open = name != NULL ? strrchr(name, '[') : NULL;
	char digits[24];
	int64_t index;
	size_t len;

	if (open == NULL || (len = strlen(open)) < 3 || len - 1 > sizeof(digits) || open[len - 1] != ']')
		return -1;
	(void)snprintf(digits, sizeof(digits), "%.*s", (int)(len - 2), open + 1);
	return num_int(digits, 0, INT32_MAX, &index, NULL) == 0 ? index : -1;
}

bool
alloc_is_live(const struct group_alloc *a)
{
	return a->desired_run && !a->replaced && a->status != ALLOC_ENDED;
}

/* What makes the prediction uncertain. */
static bool
in_doubt(const struct group_alloc *a, char why[VICTIMS_WHY_MAX])
{
	if (a->migrating)
		(void)snprintf(why, VICTIMS_WHY_MAX, "allocation %.8s moves to another node", a->id);
	else if (a->status == ALLOC_UNKNOWN)
		(void)snprintf(why, VICTIMS_WHY_MAX, "allocation %.8s is on a node that is cut off", a->id);
	else if (a->index < 0)
		(void)snprintf(why, VICTIMS_WHY_MAX, "allocation %.8s has no index", a->id);
	else
		return false;
	return true;
}

int64_t
victims_predict(const struct group_alloc *allocs, size_t n, int64_t to, size_t *victims, char why[VICTIMS_WHY_MAX])
{
	int64_t live = 0, remove;

	for (size_t i = 0; i < n; i++) {
		size_t at;

		if (!alloc_is_live(&allocs[i]))
			continue;
		if (in_doubt(&allocs[i], why))
			return -1;
		/* Insertion, highest index first: groups are small. */
		for (at = (size_t)live; at > 0 && allocs[victims[at - 1]].index < allocs[i].index; at--)
			victims[at] = victims[at - 1];
		if (at > 0 && allocs[victims[at - 1]].index == allocs[i].index) {
			(void)snprintf(why, VICTIMS_WHY_MAX, "index %lld is taken twice", (long long)allocs[i].index);
			return -1;
		}
		victims[at] = i;
		live++;
	}
	remove = live - to;
	return remove > 0 ? remove : 0;
}
