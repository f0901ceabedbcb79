#include "dispatcher/meters.h"

#include "base/metrics.h"

static const struct metric table[METERS] = {
	[METER_REQUESTS] = {"drover_http_requests_total", METRIC_COUNTER, "status", "HTTP requests answered, by status class."},
	[METER_REQUEST_SECONDS] = {"drover_http_request_seconds", METRIC_SECONDS, 0, "Time to answer, long polls left out."},
	[METER_SUBMITTED] = {"drover_runs_submitted_total", METRIC_COUNTER, "workflow", "Runs accepted."},
	[METER_REUSED] = {"drover_runs_reused_total", METRIC_COUNTER, "workflow", "Submissions answered with a run that does the same."},
	[METER_FINISHED] = {"drover_runs_finished_total", METRIC_COUNTER, "state", "Runs that reached a final state."},
	[METER_RUNS] = {"drover_runs", METRIC_GAUGE, "state", "Runs that are not final."},
	[METER_QUEUE] = {"drover_queue_depth", METRIC_GAUGE, "vertical", "Queued runs."},
	[METER_WORKERS] = {"drover_workers", METRIC_GAUGE, "vertical", "Registered workers."},
	[METER_WINDOW] = {"drover_requests", METRIC_GAUGE, "vertical", "One-shot workers asked of Nomad."},
	[METER_COMMIT_SECONDS] = {"drover_ledger_commit_seconds", METRIC_SECONDS, 0, "Time of one group commit."},
	[METER_TRANSACTIONS] = {"drover_ledger_transactions_total", METRIC_COUNTER, 0, "Transactions committed or refused."},
	[METER_UPLOADS] = {"drover_uploads_total", METRIC_COUNTER, "result", "Uploads of targets."},
	[METER_UPLOAD_BYTES] = {"drover_upload_bytes_total", METRIC_COUNTER, 0, "Bytes of targets received."},
	[METER_LEDGER_WRITABLE] = {"drover_ledger_writable", METRIC_GAUGE, 0, "1 while the ledger takes writes."},
	[METER_STORE_UP] = {"drover_store_up", METRIC_GAUGE, 0, "1 while the object store answers."},
	[METER_LIFECYCLE_OK] = {"drover_lifecycle_ok", METRIC_GAUGE, "bucket", "1 while the bucket's expiry rules are as they shall be."},
	[METER_STORE_REMOVED] = {"drover_store_removed_total", METRIC_COUNTER, "what",
	    "Removed by the janitor: target, results (of a run), orphan, upload (unfinished)."},
	[METER_BUCKET_OBJECTS] = {"drover_bucket_objects", METRIC_GAUGE, "bucket", "Objects, as the last walk counted them."},
	[METER_BUCKET_BYTES] = {"drover_bucket_bytes", METRIC_GAUGE, "bucket", "Bytes of objects, as the last walk counted them."},
	[METER_TARGETS_MISSING] = {"drover_targets_missing", METRIC_GAUGE, 0, "Targets that live runs need and the store does not have."},
	[METER_BROKEN_WORKFLOWS] = {"drover_workflows_broken", METRIC_GAUGE, 0, "Toolbox folders that cannot be used."},
	[METER_CACHE_BYTES] = {"drover_cache_bytes", METRIC_GAUGE, 0, "Bytes in the caches of all nodes."},
	[METER_CACHE_MAX_BYTES] = {"drover_cache_max_bytes", METRIC_GAUGE, 0, "Their sizes (CACHE_MAX_SIZE)."},
	[METER_CACHE_ENTRIES] = {"drover_cache_entries", METRIC_GAUGE, 0, "Archives and unpacked trees in them."},
	[METER_CACHE_HITS] = {"drover_cache_hits_total", METRIC_COUNTER, 0, "Targets and bundles that a node had."},
	[METER_CACHE_MISSES] = {"drover_cache_misses_total", METRIC_COUNTER, 0, "Targets and bundles that a node fetched."},
	[METER_CACHE_EVICTIONS] = {"drover_cache_evictions_total", METRIC_COUNTER, 0, "Entries that caches let go."},
	[METER_WORKSPACES] = {"drover_workers_workspaces", METRIC_GAUGE, "method", "Workers by the way in which they make workspaces."},
	[METER_SCALE_READY] = {"drover_scale_ready", METRIC_GAUGE, "vertical", "Runs that wait and that warm workers may take."},
	[METER_SCALE_RUNNING] = {"drover_scale_running", METRIC_GAUGE, "vertical", "Runs on warm workers."},
	[METER_SCALE_OLDEST] = {"drover_scale_oldest_seconds", METRIC_GAUGE, "vertical", "Age of the run that has waited longest."},
	[METER_SCALE_WORKERS] = {"drover_scale_workers", METRIC_GAUGE, "vertical", "Warm workers, drained ones too."},
	[METER_SCALE_SLOTS] = {"drover_scale_slots", METRIC_GAUGE, "vertical", "Their slots."},
	[METER_SCALE_ONE_SHOTS] = {"drover_scale_one_shots", METRIC_GAUGE, "vertical", "One-shots that are alive."},
	[METER_SCALE_NEEDED] = {"drover_scale_workers_needed", METRIC_GAUGE, "vertical", "Warm workers that what is ready and running would fill."},
};

void
meters_init(void)
{
	metrics_init(table, METERS);
}
