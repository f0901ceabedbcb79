#include "dispatcher/core/service.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#define GROWTH (1.0 + 1.0 / 256)  /* of the unit with each observation: half in ln 2 × 256 = 177 */
#define HALF_MS 3600000.0
#define UNIT_MAX 1e100            /* before it overflows, everything is scaled down */
#define PER_DOUBLING 4.0

static size_t
bucket_of(int64_t ms)
{
	double at = ms <= 1 ? 0 : floor(PER_DOUBLING * log2((double)ms));

	return at >= SERVICE_BUCKETS ? SERVICE_BUCKETS - 1 : (size_t)at;
}

static void
scale_down(struct service *s)
{
	for (size_t i = 0; i < SERVICE_BUCKETS; i++) {
		s->whole[i] /= s->unit;
		s->cut[i] /= s->unit;
		s->sum_ms[i] /= s->unit;
	}
	s->unit = 1;
}

void
service_add(struct service *s, int64_t now_mono, int64_t ms, enum service_end end)
{
	int64_t spent_ms = ms < 1 ? 1 : ms;
	size_t i = bucket_of(spent_ms);

	if (s->unit <= 0)
		s->unit = 1;
	else
		s->unit *= GROWTH * exp2(now_mono > s->at_mono ? fmin((double)(now_mono - s->at_mono) / HALF_MS, 256) : 0);
	s->at_mono = now_mono;
	if (s->unit > UNIT_MAX)
		scale_down(s);
	*(end == SERVICE_WHOLE ? &s->whole[i] : &s->cut[i]) += s->unit;
	s->sum_ms[i] += s->unit * (double)spent_ms;
}

/* Walks the buckets from the shortest: what part of the attempts ends in each, those cut short shared out among the longer ones.
 * What is left at the end, because the longest were all cut, is put where the longest was. Returns false if nothing is known. */
struct walk {
	const struct service *s;
	double at_risk, alive; /* weight that reached the bucket; part that has not ended before it */
	size_t i;
};

static void
walk_begin(struct walk *w, const struct service *s)
{
	*w = (struct walk){.s = s, .alive = 1};
	for (size_t i = 0; i < SERVICE_BUCKETS; i++)
		w->at_risk += s->whole[i] + s->cut[i];
}

static bool
walk_next(struct walk *w, double *ret_part, double *ret_ms)
{
	for (; w->i < SERVICE_BUCKETS && w->alive > 0; w->i++) {
		double whole = w->s->whole[w->i], here = whole + w->s->cut[w->i], left;

		if (here <= 0)
			continue;
		left = w->at_risk - here;
		/* Rounding leaves crumbs beyond the last bucket that has anything. */
		*ret_part = left <= 1e-9 * here ? w->alive : w->alive * whole / w->at_risk;
		*ret_ms = w->s->sum_ms[w->i] / here;
		w->alive = left <= 1e-9 * here ? 0 : w->alive - *ret_part;
		w->at_risk = left;
		w->i++;
		return true;
	}
	return false;
}

int64_t
service_mean_ms(const struct service *s)
{
	double mean = 0, part, ms;
	struct walk w;

	walk_begin(&w, s);
	while (walk_next(&w, &part, &ms))
		mean += part * ms;
	return llround(mean);
}

int64_t
service_part_ms(const struct service *s, double wanted)
{
	double below = 0, part, ms = 0;
	struct walk w;

	walk_begin(&w, s);
	while (below < wanted && walk_next(&w, &part, &ms))
		below += part;
	return llround(ms);
}
