/* meters.h - the autoscaler's metrics, by row of their table. */
#ifndef AUTOSCALE_METERS_H
#define AUTOSCALE_METERS_H

enum scale_meter {
	SCALE_LEADER,
	SCALE_ROUNDS,       /* by result */
	SCALE_CALLS,        /* by direction */
	SCALE_HOLDS,        /* by reason */
	SCALE_COUNT,        /* by job, as the following */
	SCALE_WANTED,
	SCALE_READY,
	SCALE_RUNNING,
	SCALE_STARTING,
	SCALE_DRAINING,
	SCALE_STRANGERS,
	SCALE_QUEUE_AGE,
	SCALE_REACTION,
	SCALE_ROUND_SECONDS,
	SCALE_METERS
};

/* Declares them; call once, before any other thread runs. */
void scale_meters_init(void);

#endif
