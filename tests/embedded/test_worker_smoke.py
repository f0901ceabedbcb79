"""The worker program by itself: one-shots, limits, missing tools, broken objects, and what it does when it is left alone."""

import os
import re
import signal
import subprocess

import pytest

from rig import Drover, binaries, wait
from rig.drover import pack
from rig.process import environment
from stories import look
from stories.steps import HOLD, REPORT, announce, go_on, reached, run_folder, sleeper

QUICK = {"LEASE_TTL": "2s", "BACKOFF_BASE": "50ms", "BACKOFF_CAP": "200ms"}


@pytest.fixture(name="start")
def start_fixture(embedded_rig, toolbox):
    """start(settings of the dispatcher): a dispatcher without workers."""
    started = []

    def start(**settings):
        started.append(Drover(embedded_rig, toolbox, {**QUICK, **settings}).start())
        return started[-1]

    yield start
    for drover in started:
        drover.close()


def once(drover, request, timeout_s=60, **settings):
    """Run drover-worker --once REQUEST to its end: a CompletedProcess."""
    env = {
        "DROVER_ADDR": drover.url,
        "WORKER_VERTICAL": "story",
        "CACHE_DIR": drover.cache_folder,
        "STORE_DIR": drover.settings["STORE_DIR"],
        "DROVER_TOOLBOX": drover.settings["DROVER_TOOLBOX"],
        **settings,
    }
    return subprocess.run([binaries.drover("drover-worker"), "--once", request], env=environment(drover.rig, env),
                          capture_output=True, text=True, timeout=timeout_s, check=False)


def by_hand(drover, child, workflow, target):
    return once(drover, "", NOMAD_META_workflow=workflow, NOMAD_META_target=target["id"], NOMAD_META_parameters="", NOMAD_JOB_ID=child)


def waiting(drover, run):
    return (drover.run(run).get("waiting") or {}).get("text", "")


def files_below(folder):
    return [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]


def test_dispatch_by_hand_becomes_one_run(start, toolbox):
    toolbox.add("finds", "echo to-the-task-log\n" + REPORT)
    drover = start()
    drover.wait_workflow("finds")
    target = drover.upload({"a.txt": "planted\n"})
    done = by_hand(drover, "drover-run-story/dispatch-1-abc", "finds", target)
    assert done.returncode == 0 and "main | to-the-task-log" in done.stdout, done.stderr
    (run,) = drover.runs()
    assert (run["state"], run["adopted"], run["attempt"]) == ("completed", True, 1)
    # A child that Nomad starts again finds the same run, which is over.
    assert by_hand(drover, "drover-run-story/dispatch-1-abc", "finds", target).returncode == 0
    assert len(drover.runs()) == 1


def test_dispatch_by_hand_of_nonsense_is_a_failed_task(start):
    drover = start()
    target = drover.upload({"a.txt": "planted\n"})
    done = by_hand(drover, "drover-run-story/dispatch-1-abc", "unknown", target)
    assert done.returncode == 1 and "unknown" in done.stderr
    assert drover.runs() == []


@pytest.mark.parametrize("settings,words", [
    ({"WORKER_VERTICAL": ""}, ["WORKER_VERTICAL"]),
    ({"STORE_DIR": ""}, ["S3_ENDPOINT", "STORE_DIR"]),
    ({"MAX_CONCURRENT_ACTIVITIES": "33"}, ["MAX_CONCURRENT_ACTIVITIES", "32"]),
    ({"CACHE_DIR": "relative"}, ["CACHE_DIR"]),
    ({"DROVER_ADDR": "gopher://x"}, ["DROVER_ADDR"]),
], ids=lambda value: next(iter(value)))
def test_settings_that_cannot_work_are_named(start, settings, words):
    done = once(start(), "x", **settings)
    assert done.returncode == 2 and all(word in done.stderr for word in words), done.stderr


def test_idle_worker_is_small(start):
    worker = start().add_worker("story")
    if look.is_sanitized(worker.process.pid):
        pytest.skip("a sanitizer's memory tells nothing")
    with open(f"/proc/{worker.process.pid}/smaps_rollup", encoding="ascii") as file:
        private = sum(int(kib) for kib in re.findall(r"^Private_\w+: +(\d+) kB$", file.read(), re.M))
    assert private <= 8 * 1024, f"{private} KiB"


def test_missing_tool_is_no_clean_scan(start, toolbox):
    toolbox.add("finds", REPORT)
    toolbox.vertical(tools=[{"name": "scanner", "probe": ["scanner-that-is-not-there"]}])
    drover = start(MAX_INFRA="1")
    drover.wait_workflow("finds")
    target = drover.upload({"a.txt": "planted\n"})
    by_hand(drover, "drover-run-story/dispatch-1-abc", "finds", target)
    (run,) = drover.runs()
    assert (run["state"], run["fail_class"]) == ("failed", "infra"), run
    assert "scanner" in run["reason"] and "install.sh" in run["reason"], run["reason"]


def test_a_worker_without_its_tools_waits_for_them(start, toolbox, tmp_path):
    """It takes nothing, says what is missing and what puts it there, and begins when it has been installed, without a restart."""
    there = tmp_path / "installed"
    toolbox.add("finds", REPORT)
    toolbox.vertical(tools=[{"name": "late", "probe": ["sh", "-c", f"test -e {there} && echo 1.0"]}])
    drover = start()
    drover.add_worker("story")
    run = drover.submit("finds")
    said = wait.until("the run to say why it waits", lambda: "late" in waiting(drover, run["id"]) and waiting(drover, run["id"]))
    assert "install.sh" in said and drover.run(run["id"])["attempt"] == 0, said
    (worker,) = drover.get("/v1/workers")["workers"]
    assert worker["missing"] == ["late"]
    narrow = drover.cli("workers", env={"COLUMNS": "80"}).stdout.splitlines()
    assert f"{worker['id']}: takes no runs: {worker['health']}; missing: late" in narrow
    assert drover.run(run["id"])["waiting"]["estimate_ms"] is None, "when it will be mended nobody knows"
    there.touch()
    assert drover.wait_run(run["id"], "completed")["attempt"] == 1
    (worker,) = drover.get("/v1/workers")["workers"]
    assert (worker["health"], worker["missing"]) == ("", [])


def test_broken_object_is_refused(start, toolbox):
    toolbox.add("finds", REPORT)
    drover = start()
    data = pack({"a.txt": "planted\n"})
    target = drover.upload(data)
    broken = 0
    for path in files_below(os.path.join(drover.settings["STORE_DIR"], "targets")):
        with open(path, "rb") as file:
            stored = file.read()
        if data in stored:
            with open(path, "wb") as file:
                file.write(stored.replace(data, data[:-1] + bytes([data[-1] ^ 1])))
            broken += 1
    assert broken == 1
    drover.add_worker("story")
    run = drover.wait_run(drover.submit("finds", target)["id"], "failed")
    assert (run["fail_class"], run["attempt"]) == ("invalid", 1), run
    kept = [path for path in files_below(os.path.join(drover.cache_folder, "objects")) if target["sha256"] in path and "blob" in path]
    assert not kept


def test_log_is_cut_at_its_limit(start, toolbox):
    toolbox.add("loud", "yes 0123456789abcdef | head -c 1000000\n" + REPORT)
    drover = start()
    drover.add_worker("story", LOG_MAX="64KiB")
    run = drover.wait_run(drover.submit("loud")["id"], "completed")
    log = drover.artifact(run["id"], "run.log")
    assert 64 * 1024 <= len(log) <= 64 * 1024 + 200 and b"LOG_MAX" in log[-100:]


def test_worker_that_is_cut_off_kills_its_tools(start, toolbox):
    command, words = sleeper()
    toolbox.add("slow", announce("holding") + command)
    drover = start(ORPHAN_LIMIT="1s")
    worker = drover.add_worker("story")
    run = drover.submit("slow")
    look.started(words)
    folder = run_folder(drover, run["id"])
    drover.kill9()
    wait.until("the tool to be gone", lambda: not look.processes(words) and not os.path.exists(folder))
    assert worker.alive()


def test_run_may_finish_while_its_worker_drains(start, toolbox):
    toolbox.add("slow", HOLD + REPORT)
    toolbox.add("other", REPORT)
    drover = start()
    worker = drover.add_worker("story", DRAIN_TIMEOUT="1h")
    run = drover.submit("slow")
    reached(drover, run["id"])
    worker.process.signal(signal.SIGTERM)
    wait.until("the drain", lambda: "draining" in worker.process.log_tail())
    other = drover.submit("other")
    go_on(drover, run["id"])
    assert drover.wait_run(run["id"], "completed")["attempt"] == 1
    assert worker.process.wait(20) == 0
    assert drover.run(other["id"])["state"] == "queued"


def test_second_signal_hands_back_at_once(start, toolbox):
    toolbox.add("slow", HOLD + REPORT)
    drover = start()
    worker = drover.add_worker("story", DRAIN_TIMEOUT="1h")
    run = drover.submit("slow")
    reached(drover, run["id"])
    worker.process.signal(signal.SIGTERM)
    wait.until("the drain", lambda: "draining" in worker.process.log_tail())
    worker.process.signal(signal.SIGTERM)
    assert worker.process.wait(20) == 0
    assert [row["state"] for row in drover.run(run["id"])["history"]][-1] == "queued"


def test_artifacts_that_are_left_out_are_told(start, toolbox):
    toolbox.add("many", 'for i in 1 2 3 4 5; do echo x > "$OUT/$i.txt"; done\n' + REPORT, artifacts=["*.txt"])
    drover = start()
    drover.wait_workflow("many")
    target = drover.upload({"a.txt": "planted\n"})
    done = once(drover, "", NOMAD_META_workflow="many", NOMAD_META_target=target["id"], NOMAD_META_parameters="",
                NOMAD_JOB_ID="drover-run-story/dispatch-1-abc", ARTIFACTS_MAX="3")
    assert done.returncode == 0 and "2 artifacts were left out" in done.stdout, done.stdout + done.stderr
    (run,) = drover.runs()
    listed = drover.get(f"/v1/run/{run['id']}/artifacts")["artifacts"]
    assert sum(one["name"].startswith("artifacts/") for one in listed) == 3


def test_a_worker_whose_disk_is_nearly_full_takes_nothing(start, toolbox):
    """It registers, says why it takes no runs, and leaves them to others."""
    toolbox.add("finds", REPORT)
    drover = start()
    full = drover.add_worker("story", CACHE_MIN_FREE="1000TiB")
    (told,) = wait.until("the worker to say why", lambda: [w for w in drover.get("/v1/workers")["workers"] if w["health"]])
    assert "CACHE_MIN_FREE" in told["health"] and "less than half" in told["health"]
    run = drover.submit("finds")
    wait.until("the worker to be named", lambda: drover.get(f"/v1/run/{run['id']}/explain")["explain"]["workers"])
    (seen,) = drover.get(f"/v1/run/{run['id']}/explain")["explain"]["workers"]
    assert seen["state"] == "unfit" and seen["why"] == told["health"]
    assert "takes runs: CACHE_DIR" in waiting(drover, run["id"])
    drover.add_worker("story")
    done = drover.wait_run(run["id"], "completed")
    assert done["attempt"] == 1 and full.alive()
    assert not re.search(run["id"], full.process.log_tail()), "it had nothing to do with it"


def test_a_worker_ends_soon_though_its_store_is_away(embedded_rig, tmp_path):
    """It looks at the store again and again; what it waits for there must not hold up its end."""
    nowhere = "http://127.0.0.1:9"
    log = tmp_path / "log"
    env = environment(embedded_rig, {
        "DROVER_ADDR": nowhere, "WORKER_VERTICAL": "story", "CACHE_DIR": str(tmp_path / "cache"), "SANDBOX": "best-effort",
        "S3_ENDPOINT": nowhere, "S3_ACCESS_KEY": "any", "S3_SECRET_KEY": "any-secret",
    })
    with log.open("wb") as out, subprocess.Popen([binaries.drover("drover-worker")], env=env, stdout=out, stderr=out) as worker:
        try:
            wait.until("the finding", lambda: "takes no runs: the object store" in log.read_text(), 45)
            worker.terminate()
            assert worker.wait(10) == 0, log.read_text()
        finally:
            worker.kill()


def test_a_report_that_is_nested_too_deep_costs_its_own_run_alone(start, toolbox):
    """Its worker writes it again, in a thread with a small stack."""
    toolbox.add("deep", """nest() { printf '%1500s' '' | tr ' ' "$1"; }
printf '{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"t"}},"results":[{"ruleId":"r","properties":{"x":%s%s}}]}]}' \\
    "$(nest '[')" "$(nest ']')" > "$OUT/main.sarif"
exit 10""")
    drover = start()
    worker = drover.add_worker("story")
    run = drover.submit("deep")
    ended = drover.wait_run(run["id"], "failed", timeout_s=60)
    assert ended["fail_class"] == "tool" and "nested more than" in ended["reason"], ended
    assert worker.alive()


def test_a_list_of_artifacts_stays_readable(start, toolbox):
    """However long their names are, escaped: without its list nothing of a run can be read, its log neither."""
    toolbox.add("names", r"""d=$(printf '%240s' '' | tr ' ' '\001') n=$(printf '%140s' '' | tr ' ' '\001')
mkdir -p "$OUT/$d/$d/$d" && cd "$OUT/$d/$d/$d" || exit 1
i=100; while [ $i -lt 950 ]; do : > "$i$n"; i=$((i + 1)); done
""" + REPORT, artifacts=["**"])
    drover = start()
    drover.add_worker("story")
    run = drover.submit("names")
    drover.wait_run(run["id"], "completed", timeout_s=120)
    names = [a["name"] for a in drover.get(f"/v1/run/{run['id']}/artifacts")["artifacts"]]
    assert 400 < len(names) < 850
    assert "artifacts were left out" in drover.artifact(run["id"], "run.log").decode()
