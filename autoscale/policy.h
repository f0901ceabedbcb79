/* policy.h - how many workers a group shall have. Pure: takes the time and the facts, keeps its memory in the caller's struct,
 * does no I/O, allocates nothing. The agent and the simulator run the very same code.
 *
 * Each check of a policy proposes a count; the highest proposal is `wanted`. Then, in this order: holds (stopped, stale queue,
 * deployment, a foreign change, …), dead band, stabilisation, cooldown, step caps, bounds. Desired counts are compared, so
 * whatever is still starting counts as there.
 */
#ifndef AUTOSCALE_POLICY_H
#define AUTOSCALE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POLICY_CHECKS_MAX 8
#define POLICY_COUNT_MAX 50000  /* Nomad's job_max_count */
#define POLICY_REASON_MAX 300
#define POLICY_RATE_SLICES 12   /* arrivals are counted in slices of … */
#define POLICY_SLICE_MS 5000
#define POLICY_SAMPLES 64       /* of a stabilisation window */

enum policy_strategy {
	STRATEGY_DROVER,       /* wanted = ceil((arrival × service time + backlog × service time ÷ drain objective) ÷ slots) */
	STRATEGY_TARGET_VALUE, /* the Nomad Autoscaler's arithmetic: ceil(count × metric ÷ target) */
	STRATEGY_PASS_THROUGH, /* the metric is the count */
	STRATEGIES
};

enum policy_metric { /* what target-value and pass-through may ask for */
	METRIC_READY,             /* runs that wait and may start */
	METRIC_RUNNING,           /* runs on warm workers */
	METRIC_DEMAND,            /* both */
	METRIC_READY_PER_WORKER,  /* ÷ desired count (÷ 1 at 0) */
	METRIC_DEMAND_PER_WORKER,
	METRIC_OLDEST_SECONDS,    /* age of the run that has waited longest */
	METRIC_WORKERS_NEEDED,    /* demand ÷ slots, rounded up */
	METRICS
};

struct policy_check {
	char name[64];
	enum policy_strategy strategy;
	enum policy_metric metric;
	double target;            /* target-value */
	double threshold;         /* dead band: no change while wanted ÷ count is within 1 ± threshold */
	int64_t max_up, max_down; /* largest step, 0: none */
	int64_t drain_ms;         /* drover: within this time the backlog shall be worked off */
	int64_t service_ms;       /* drover: a run's length while none is known */
	int64_t slots;            /* runs at once per worker while no worker tells; 0: unknown */
};

struct policy {
	bool enabled;
	int64_t min, max;
	int64_t evaluation_ms;        /* at least so often */
	int64_t cooldown_ms;          /* after any change, before a scale-in */
	int64_t cooldown_up_ms;       /* after a scale-up, before the next one */
	int64_t stabilise_up_ms;      /* a scale-up takes the lowest proposal of this window */
	int64_t stabilise_down_ms;    /* a scale-in takes the highest proposal of this window */
	int64_t stale_ms;             /* the queue's figures may be so old */
	int64_t foreign_hold_ms;      /* after someone else changed the count */
	int64_t start_failures;       /* failed starts in a row before scale-ups pause */
	int64_t start_pause_ms;       /* first pause; doubles up to 16 times this */
	size_t n_checks;
	struct policy_check checks[POLICY_CHECKS_MAX];
};

struct policy_facts {
	/* the queue, as last read */
	bool queue_known;
	int64_t queue_age_ms;         /* since the dispatcher was last in touch */
	int64_t ready;                /* runs that wait and that warm workers may take */
	int64_t running;              /* runs on warm workers */
	int64_t one_shots;            /* one-shots on their way: each will take one of `ready` */
	int64_t oldest_ms;
	int64_t arrivals_total;       /* rises; a smaller one than before is a new count */
	int64_t service_ms;           /* mean, 0 unknown */
	int64_t workers, slots;       /* registered warm workers, and their slots together */
	int64_t taking, held, idle;   /* of these: workers that are given runs, what they hold, and the slots that could be filled now */
	/* the group, as Nomad has it */
	int64_t count;                /* desired */
	int64_t starting;             /* of these: allocations that are not ready yet */
	bool stopped;                 /* the job is stopped (not merely at 0) */
	bool deployment;              /* one is active */
	int64_t failed_starts;        /* in a row, since a worker of the group was last ready */
};

enum policy_action { ACTION_HOLD, ACTION_UP, ACTION_DOWN };

enum policy_hold { /* why nothing happens; the first that applies */
	HOLD_NONE,
	HOLD_STEADY,      /* wanted is what is there */
	HOLD_DISABLED,
	HOLD_STOPPED,
	HOLD_STALE,
	HOLD_DEPLOYMENT,
	HOLD_FOREIGN,
	HOLD_STARTS,
	HOLD_DEAD_BAND,
	HOLD_STABILISE,
	HOLD_COOLDOWN,
	HOLD_SCALE_IN,    /* (the agent's) the victims cannot be told, or are busy */
	HOLDS
};

struct policy_decision {
	enum policy_action action;
	enum policy_hold hold;
	int64_t count, to;            /* is, shall be (== count unless action) */
	int64_t wanted;               /* highest proposal, before stabilisation, caps and bounds */
	double raw;                   /* the same before rounding up */
	double rate;                  /* arrivals per second */
	int64_t service_ms, backlog, slots; /* what the proposal was made of */
	int64_t until_mono_ms;        /* of a hold that ends by itself; 0: none */
	size_t check;                 /* whose proposal won */
	char reason[POLICY_REASON_MAX];
};

struct policy_window { /* proposals of the last while: extremes by slice of time */
	int64_t began_mono_ms[POLICY_SAMPLES];
	int64_t low[POLICY_SAMPLES], high[POLICY_SAMPLES];
	size_t next, n;
	int64_t first_mono_ms; /* when it was first fed */
};

struct policy_state { /* zeroed at first */
	bool seen;
	int64_t count_known;          /* as last seen or set */
	int64_t foreign_mono_ms;      /* when it was found changed by someone else; 0 never */
	int64_t up_mono_ms, down_mono_ms; /* own last changes; 0 never */
	int64_t pause_until_mono_ms, pause_ms, failures_paused;
	bool arrivals_seen;
	int64_t arrivals_last, slice_mono_ms;
	int64_t slices[POLICY_RATE_SLICES];
	size_t n_slices;              /* closed ones, up to POLICY_RATE_SLICES */
	struct policy_window up, down;
};

/* A policy without checks, with every default. */
struct policy policy_default(void);

/* A check with every default of its strategy. */
struct policy_check policy_check_default(enum policy_strategy s);

/* Decides. now_mono_ms > 0 never goes back. The caller tells policy_scaled when it did what *ret says. */
void policy_decide(const struct policy *p, struct policy_state *s, const struct policy_facts *f, int64_t now_mono_ms,
    struct policy_decision *ret);

/* The count was changed by us. */
void policy_scaled(struct policy_state *s, int64_t from, int64_t to, int64_t now_mono_ms);

/* Whether a change went through is not known: the next count that is seen is taken as ours. */
void policy_unsure(struct policy_state *s);

/* Words of API, logs and policies; static storage. strategy and metric: -1 if it is none. */
const char *policy_action_word(enum policy_action a);
const char *policy_hold_word(enum policy_hold h);
const char *policy_strategy_word(enum policy_strategy s);
const char *policy_metric_word(enum policy_metric m);
int policy_strategy_parse(const char *word);
int policy_metric_parse(const char *word);

#endif
