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

/* How many of the first `remove` go for certain: all of them, unless a failed one is among them and any other is left. */
static int64_t
certain(const struct group_alloc *allocs, const size_t *victims, int64_t live, int64_t remove, char why[VICTIMS_WHY_MAX])
{
	int64_t at = 0, left = 0;

	for (int64_t i = remove; i < live; i++)
		left += allocs[victims[i]].status != ALLOC_FAILED;
	while (at < remove && allocs[victims[at]].status != ALLOC_FAILED)
		at++;
	if (left == 0 || at == remove)
		return remove;
	(void)snprintf(why, VICTIMS_WHY_MAX, "allocation %.8s with index %lld has failed: Nomad would stop any other in its place",
	    allocs[victims[at]].id, (long long)allocs[victims[at]].index);
	return at;
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
	return remove > 0 ? certain(allocs, victims, live, remove, why) : 0;
}
