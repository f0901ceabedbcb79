#include "dispatcher/core/share.h"

#include <math.h>

double
share_unit(struct share_clock *k, int64_t now_mono)
{
	if (k->unit <= 0) {
		k->unit = 1;
		k->at_mono = now_mono;
	}
	if (now_mono > k->at_mono) {
		k->unit *= exp2(fmin((double)(now_mono - k->at_mono) / (double)k->half_ms, 600));
		k->at_mono = now_mono;
	}
	return k->unit;
}

double
share_weight(const struct share_clock *k, int64_t used_ms)
{
	double life_ms = (double)k->half_ms / M_LN2;

	return k->unit * life_ms / 1000 * (1 - exp(-(double)(used_ms < 1 ? 1 : used_ms) / life_ms));
}
