/* The table of commands: what drover can do, one row each. */
#include "cli/cli.h"

#define OPTIONS(rows) (rows), sizeof(rows) / sizeof((rows)[0])
#define LIMIT {"limit", NULL, "N", false, "At most so many (default 20; 0: all)."}

static const struct option init_options[] = {
	{"data-dir", NULL, "DIR", false, "The dispatcher's data directory (default /var/lib/drover)."},
	{"force", NULL, NULL, false, "Replace tokens that are there: all old ones stop working."},
	{"tenant", NULL, "NAME", false, "Tenant of the tokens (default \"default\")."},
	{"toolbox", NULL, "DIR", false, "Print the lines for the workers of its verticals (default DROVER_TOOLBOX)."},
};
static const struct option dev_options[] = {
	{"data-dir", NULL, "DIR", false, "Where everything is kept (default $XDG_DATA_HOME/drover/dev)."},
	{"ephemeral", NULL, NULL, false, "Keep everything in a temporary directory that is removed at the end."},
	{"listen", NULL, "ADDR", false, "Address of the API (default 127.0.0.1:8700; port 0: any free one)."},
	{"toolbox", NULL, "DIR", false, "Folder with verticals/ and workflows/."},
	{"slots", NULL, "N", false, "Runs at the same time in each vertical (default: one per two processors)."},
	{"sandbox", NULL, "HOW", false, "require (default), best-effort or none: how tools are confined."},
};
static const struct option run_options[] = {
	{"p", "param", "KEY=VALUE", true, "A parameter; a list takes several."},
	{"params-file", NULL, "FILE", false, "Parameters as a JSON object (\"-\": stdin); -p is stronger."},
	{"wait", NULL, NULL, false, "Wait for the end and show the findings."},
	{"detach", NULL, NULL, false, "Only print the run's id (default without -wait: say more)."},
	{"fail-on", NULL, "LEVEL", false, "Exit with 1 on findings at or above error, warning, note or info (all); none is the default. Waits."},
	{"sarif", "export-sarif", "FILE", false, "Write the findings as SARIF (\"-\": stdout). Waits."},
	{"priority", NULL, "N", false, "0 to 100 (default 50); more is sooner."},
	{"timeout", NULL, "TIME", false, "Stop the run after this time, such as 30m."},
	{"retention", NULL, "TIME", false, "Keep its results for this time after its end, such as 90d."},
	{"label", NULL, "KEY=VALUE", true, "A label to find it by."},
	{"not-before", NULL, "WHEN", false, "Do not start it before this time: 2026-01-31T12:00:00Z, or in 2h as \"2h\"."},
	{"max-wait", NULL, "TIME", false, "Give it up when no worker has taken it after this time."},
	{"key", NULL, "TEXT", false, "Runs with the same concurrency key take turns (default: as the workflow says)."},
	{"key-limit", NULL, "N", false, "So many of them at a time (default 1)."},
	{"key-mode", NULL, "MODE", false, "Where no turn is free: queue (default), fail, or replace the oldest."},
	{"reuse", NULL, "WHAT", false, "Take a run that does the same: live (not ended yet) or completed (also its results); never is the default."},
	{"reuse-max-age", NULL, "TIME", false, "With -reuse completed: only a run submitted less than this ago."},
	{"idempotency-key", NULL, "KEY", false, "The same key gives the same run."},
	{"kind", NULL, "KIND", false, "tree or file: how an archive is taken (default: as the workflow wants it)."},
};
#define RUN_FILTER \
	{"state", NULL, "STATES", false, "queued, running, canceling, completed, failed, timed_out, canceled; a comma between."}, \
	{"workflow", NULL, "NAME", false, "Of this workflow."}, {"vertical", NULL, "NAME", false, "Of this vertical."}, \
	{"target", NULL, "ID", false, "On this target."}, {"label", NULL, "KEY=VALUE", false, "With this label."}, \
	{"since", NULL, "WHEN", false, "Submitted since this time: 2026-01-31T12:00:00Z, or 2h ago as \"2h\"."}, \
	{"until", NULL, "WHEN", false, "Submitted before this time."}, \
	{"dead", NULL, NULL, false, "Given up after retries, and nobody has seen to them since."}
#define BULK \
	RUN_FILTER, {"yes", "y", NULL, false, "Do not ask."}, {"dry-run", NULL, NULL, false, "Only tell how many it is about."}

static const struct option runs_options[] = {RUN_FILTER, LIMIT};
static const struct option status_options[] = {
	{"watch", NULL, NULL, false, "Follow it until it ends."},
};
static const struct option logs_options[] = {
	{"f", "follow", NULL, false, "Go on until the run ends."},
	{"attempt", NULL, "N", false, "Of an older attempt."},
};
static const struct option findings_options[] = {
	{"sarif", "export-sarif", "FILE", false, "Write SARIF (\"-\": stdout) in place of the table."},
	{"severity", NULL, "LEVEL", false, "Only error; warning and above; note and above."},
	{"limit", NULL, "N", false, "At most so many (default 0: all)."},
};
static const struct option artifacts_options[] = {
	{"o", "output", "DIR", false, "Fetch into this directory (default, with NAME or -all: here)."},
	{"all", NULL, NULL, false, "Fetch all of them."},
};
static const struct option cancel_options[] = {
	{"reason", NULL, "TEXT", false, "Kept with the run."},
	BULK,
};
static const struct option pause_options[] = {
	{"reason", NULL, "TEXT", false, "Shown to whoever waits."},
};
static const struct option bulk_options[] = {BULK};
static const struct option events_options[] = {
	{"f", "follow", "RUN", false, "Of this run, until it ends."},
};
static const struct option targets_options[] = {LIMIT};
static const struct option storage_doctor_options[] = {
	{"repair", NULL, NULL, false, "Repair what can be: buckets, rules, orphans, unfinished uploads, rows without an object, dates."},
	{"verify", NULL, "N", false, "Read N targets again, picked at random, and check their digests."},
	{"limit", NULL, "TIME", false, "Stop looking after this time (default 20s)."},
};

#define CACHE_DIR_OPTION {"cache-dir", NULL, "DIR", false, "The workers' CACHE_DIR (default: the environment's, else /var/cache/drover)."}
static const struct option cache_options[] = {CACHE_DIR_OPTION};
static const struct option cache_ls_options[] = {CACHE_DIR_OPTION, LIMIT};

const struct command cli_commands[] = {
	{"artifacts", "RUN [NAME...]", 1, -1, "list or fetch what a run left behind", OPTIONS(artifacts_options), cmd_artifacts},
	{"cache gc", "", 0, 0, "evict what is over age or size on this machine, clear away what crashes left", OPTIONS(cache_options), cmd_cache_gc},
	{"cache ls", "", 0, 0, "list what this machine's workers keep, the last used first", OPTIONS(cache_ls_options), cmd_cache_ls},
	{"cache rm", "DIGEST...", 1, -1, "remove entries that no run uses (the first 6 digits will do)", OPTIONS(cache_options), cmd_cache_rm},
	{"cache stat", "", 0, 0, "show size, use and limits of this machine's cache", OPTIONS(cache_options), cmd_cache_stat},
	{"cache verify", "", 0, 0, "read every byte; what is damaged goes out of service (exit 1)", OPTIONS(cache_options), cmd_cache_verify},
	{"cancel", "[RUN...]", 0, -1, "stop runs: these, or all that a filter names", OPTIONS(cancel_options), cmd_cancel},
	{"dev", "", 0, 0, "start everything on this machine: dispatcher, store and workers, no Nomad", OPTIONS(dev_options), cmd_dev},
	{"events", "", 0, 0, "follow what happens", OPTIONS(events_options), cmd_events},
	{"explain", "RUN", 1, 1, "tell why a run waits, or how it ended: one answer from queue, workers and Nomad", NULL, 0, cmd_explain},
	{"findings", "RUN", 1, 1, "show what a run found", OPTIONS(findings_options), cmd_findings},
	{"init", "", 0, 0, "make the first API tokens", OPTIONS(init_options), cmd_init},
	{"logs", "RUN", 1, 1, "show a run's log", OPTIONS(logs_options), cmd_logs},
	{"pause", "vertical|tenant NAME", 2, 2, "hold back runs that are queued; what runs goes on", OPTIONS(pause_options), cmd_pause},
	{"purge", "[RUN...]", 0, -1, "forget runs that have ended, with their results", OPTIONS(bulk_options), cmd_purge},
	{"queue", "", 0, 0, "show what waits, for what, and what was asked of Nomad", NULL, 0, cmd_queue},
	{"requeue", "[RUN...]", 0, -1, "run again what failed: a new run with what the old one asked for", OPTIONS(bulk_options), cmd_requeue},
	{"resume", "vertical|tenant NAME", 2, 2, "let go on what was paused", NULL, 0, cmd_resume},
	{"run", "WORKFLOW TARGET", 2, 2, "run a workflow on a directory, file, archive or known target", OPTIONS(run_options), cmd_run},
	{"runs", "", 0, 0, "list runs", OPTIONS(runs_options), cmd_runs},
	{"status", "RUN", 1, 1, "show a run: state, why it waits, steps, history", OPTIONS(status_options), cmd_status},
	{"storage doctor", "", 0, 0, "check the object store, and repair it; exit 1 on findings", OPTIONS(storage_doctor_options), cmd_storage_doctor},
	{"storage stat", "", 0, 0, "count what is stored, by bucket and tenant", NULL, 0, cmd_storage_stat},
	{"targets", "", 0, 0, "list targets", OPTIONS(targets_options), cmd_targets_list},
	{"targets list", "", 0, 0, "list targets", OPTIONS(targets_options), cmd_targets_list},
	{"targets ls", "", 0, 0, "list targets", OPTIONS(targets_options), cmd_targets_list},
	{"targets rm", "TARGET...", 1, -1, "remove targets", NULL, 0, cmd_targets_rm},
	{"targets show", "TARGET", 1, 1, "show a target", NULL, 0, cmd_targets_show},
	{"version", "", 0, 0, "print the version", NULL, 0, cmd_version},
	{"workers", "", 0, 0, "list workers", NULL, 0, cmd_workers},
	{"workflow list", "", 0, 0, "list workflows, broken ones with the reason", NULL, 0, cmd_workflow_list},
	{"workflow push", "DIR", 1, 1, "send a workflow's folder to the dispatcher", NULL, 0, cmd_workflow_push},
	{"workflow show", "NAME", 1, 1, "show a workflow and its parameters", NULL, 0, cmd_workflow_show},
	{"workflow validate", "DIR...", 1, -1, "check workflows' folders, without a dispatcher", NULL, 0, cmd_workflow_validate},
};
const size_t cli_n_commands = sizeof(cli_commands) / sizeof(cli_commands[0]);
