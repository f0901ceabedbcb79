/* service.h - how long attempts take, learnt from those that ended, old ones fading. Pure.
 *
 * Some are cut short (canceled, lost, handed back): counting them as whole would make times look short, leaving them out as well,
 * since long ones are cut more often. So times are kept in buckets, whole and cut ones apart, and read by the product-limit
 * estimator (Kaplan, Meier 1958): a cut attempt counts as one of those that reached its time.
 */
#ifndef DISPATCHER_CORE_SERVICE_H
#define DISPATCHER_CORE_SERVICE_H

#include <stdint.h>

#define SERVICE_BUCKETS 120 /* four per doubling: 1 ms … 12 days */

enum service_end { SERVICE_WHOLE, SERVICE_CUT };

struct service { /* all zero: nothing learnt */
	double whole[SERVICE_BUCKETS], cut[SERVICE_BUCKETS]; /* weights, that of a new observation is `unit` */
	double sum_ms[SERVICE_BUCKETS];                      /* weighted times of both */
	double unit;
	int64_t at_mono;                                     /* of the last observation */
};

/* Learns one attempt, of at least a millisecond: a mean of 0 says that nothing is known. Weights halve with
 * every 180 newer attempts, and with every hour. */
void service_add(struct service *s, int64_t now_mono, int64_t ms, enum service_end end);

/* The mean, and the time that a part of the attempts (0 < part < 1) does not exceed; 0: nothing is known. */
int64_t service_mean_ms(const struct service *s);
int64_t service_part_ms(const struct service *s, double part);

#endif
