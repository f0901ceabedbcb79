/* share.h - how much of a vertical each tenant has used lately, in slot-seconds that fade. Pure.
 *
 * Instead of letting all old use fade, new use weighs more: `unit` is what a slot-second of this moment weighs, and doubles with
 * every half-life. So the order of tenants changes only where something is used, and what is compared is one number.
 * A lease is charged when it is given, with what it will probably take, or tenants with many short runs would take all slots that
 * fall free at once; the charge is corrected while it runs longer, and when it ends.
 */
#ifndef DISPATCHER_CORE_SHARE_H
#define DISPATCHER_CORE_SHARE_H

#include <stdbool.h>
#include <stdint.h>

#define SHARE_UNIT_MAX 1e100 /* of share_clock.unit: then everything is to be scaled down */

struct share_clock { /* all zero but half_ms: at its beginning */
	int64_t half_ms;
	int64_t at_mono;
	double unit;
};

/* What a slot-second of now weighs. Time that runs backwards stands still. */
double share_unit(struct share_clock *k, int64_t now_mono);

/* Weight of a slot that has been in use for so long, up to now: the integral of what is fading. A lease counts as a millisecond
 * at least, or a tenant of very short runs would never have used anything. */
double share_weight(const struct share_clock *k, int64_t used_ms);

#endif
