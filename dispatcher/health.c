#include "dispatcher/health.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/metrics.h"
#include "dispatcher/buckets.h"
#include "dispatcher/call.h"
#include "dispatcher/fleet.h"
#include "dispatcher/meters.h"
#include "dispatcher/query.h"
#include "dispatcher/scale_api.h"
#include "dispatcher/toolbox.h"

#define METRICS_TEXT_MAX (1024 * 1024)

void
health_show(struct http_req *r, void *ctx)
{
	struct call *c = call_new(ctx, r, 0, NULL);
	struct dispatcher *d = c->d;
	const char *ledger = d->ledger_writable ? "ok" : d->ledger_why;
	const char *store = d->store_up ? "ok" : d->store_why[0] != '\0' ? d->store_why : "not checked yet";
	const char *nomad = d->cluster == NULL ? "off" : cluster_state(d->cluster);
	const char *toolbox = toolbox_state(d->toolbox);
	char lifecycle[600];
	bool accepts = d->ledger_writable && !d->stopping;
	bool fine;

	buckets_alarm(d->buckets, lifecycle, sizeof(lifecycle));
	fine = accepts && d->store_up && lifecycle[0] == '\0' && (d->cluster == NULL || strcmp(nomad, "ok") == 0) &&
	    (strcmp(toolbox, "ok") == 0 || strcmp(toolbox, "off") == 0);

	call_reply(c, accepts ? 200 : 503, json_pack("{s:s, s:s, s:I, s:{s:o, s:o, s:o, s:o, s:o}}", "status", fine ? "ok" : "degraded",
	    "version", DROVER_VERSION, "epoch", (json_int_t)d->ledger->epoch, "components", "ledger", json_text(ledger), "store",
	    json_text(store), "nomad", json_text(nomad), "toolbox", json_text(toolbox), "lifecycle",
	    json_text(lifecycle[0] == '\0' ? "ok" : lifecycle)));
}

/* Gauges are set when they are read: the core keeps the numbers anyway. */
static void
set_gauges(struct dispatcher *d)
{
	size_t n, queued = 0, running = 0;
	struct core_depth *depths = query_lanes(d->core, &n);

	for (size_t i = 0; i < n; i++) {
		int64_t depth = 0, workers = 0, requests = 0;

		/* Classes of one vertical are summed: the label is the vertical. */
		for (size_t k = 0; k < n; k++)
			if (strcmp(depths[k].vertical, depths[i].vertical) == 0) {
				depth += (int64_t)depths[k].queued;
				workers += (int64_t)depths[k].workers;
				requests += (int64_t)depths[k].requests;
			}
		metrics_set(METER_QUEUE, depths[i].vertical, depth);
		metrics_set(METER_WORKERS, depths[i].vertical, workers);
		metrics_set(METER_WINDOW, depths[i].vertical, requests);
		queued += depths[i].queued;
		running += depths[i].running;
	}
	metrics_set(METER_RUNS, run_state_word(RUN_QUEUED), (int64_t)queued);
	metrics_set(METER_RUNS, run_state_word(RUN_RUNNING), (int64_t)running);
	free(depths);
}

void
metrics_show(struct http_req *r, void *ctx)
{
	struct buf b = buf_make(METRICS_TEXT_MAX);

	set_gauges(ctx);
	scale_set_gauges(ctx);
	fleet_set_gauges(((struct dispatcher *)ctx)->fleet);
	metrics_print(&b);
	http_reply(r, 200, "text/plain; version=0.0.4", buf_str(&b), b.len, NULL);
	buf_release(&b);
}
