/* meters.h - the dispatcher's metrics, by row of their table. */
#ifndef DISPATCHER_METERS_H
#define DISPATCHER_METERS_H

enum meter {
	METER_REQUESTS,        /* HTTP requests by status class */
	METER_REQUEST_SECONDS,
	METER_SUBMITTED,
	METER_REUSED,
	METER_FINISHED,        /* by state */
	METER_RUNS,            /* live runs by state */
	METER_QUEUE,           /* queued by vertical */
	METER_WORKERS,
	METER_WINDOW,          /* one-shots asked of Nomad, by vertical */
	METER_COMMIT_SECONDS,
	METER_TRANSACTIONS,
	METER_UPLOADS,
	METER_UPLOAD_BYTES,
	METER_LEDGER_WRITABLE,
	METER_STORE_UP,
	METER_LIFECYCLE_OK,    /* by bucket */
	METER_STORE_REMOVED,   /* by what it was */
	METER_BUCKET_OBJECTS,  /* by bucket, as the last walk found it */
	METER_BUCKET_BYTES,
	METER_TARGETS_MISSING,
	METER_BROKEN_WORKFLOWS,
	METER_CACHE_BYTES,     /* of all nodes together, as the following */
	METER_CACHE_MAX_BYTES,
	METER_CACHE_ENTRIES,
	METER_CACHE_HITS,
	METER_CACHE_MISSES,
	METER_CACHE_EVICTIONS,
	METER_WORKSPACES,      /* workers by the way in which they make workspaces */
	METER_SCALE_READY,     /* for autoscalers, by vertical, as the following */
	METER_SCALE_RUNNING,
	METER_SCALE_OLDEST,
	METER_SCALE_WORKERS,
	METER_SCALE_SLOTS,
	METER_SCALE_ONE_SHOTS,
	METER_SCALE_NEEDED,
	METERS
};

/* Declares them; call once, before any other thread runs. */
void meters_init(void);

#endif
