"""Stories about runs, the same on real servers and embedded. The fixture "system" is a System (see system.py)."""

import json
import os
import signal
import threading
import time

import pytest

from rig import wait
from rig.drover import FINAL

from . import look
from .steps import HOLD, REPORT, announce, go_on, reached, run_folder, sleeper

STRICT = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"depth": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3}},
}


def outcomes(drover, run_id):
    """Final states in the run's history: exactly one once it has ended."""
    return [row["state"] for row in drover.run(run_id)["history"] if row["state"] in FINAL]


def nothing_left(drover, run_id):
    """Of an ended run nothing is left on the node: no folder, no lock, no mount."""
    wait.until(
        f"the folder of {run_id} to be gone",
        lambda: not [path for path in look.run_folders(drover.cache_folder) if run_id in path],
    )
    assert not [path for path in look.mounts(drover.cache_folder) if run_id in path]


# The main job ----------------------------------------------------------------------------------------------------


def test_run_comes_to_findings(system, toolbox):
    drover = system.drover
    toolbox.add("finds", "echo looking at $(cat \"$TARGET_DIR/a.txt\")\n" + REPORT)
    run = drover.submit("finds")
    assert run["state"] == "queued" and run["attempt"] == 0
    run = drover.wait_run(run["id"], "completed")
    assert run["findings"] == {"error": 1, "warning": 0, "note": 0, "total": 1}
    assert [(s["name"], s["exit_code"]) for s in run["steps"]] == [("main", 10)]
    assert (run["attempt"], run["partial"], run["fail_class"]) == (1, False, "")
    assert [row["state"] for row in run["history"]] == ["queued", "running", "completed"]
    assert run["created_at"] <= run["started_at"] <= run["finished_at"]
    sarif = drover.findings(run["id"])
    results = [result for part in sarif["runs"] for result in part.get("results", [])]
    assert [result["ruleId"] for result in results] == ["planted"]
    assert results[0]["partialFingerprints"]
    assert all(i["executionSuccessful"] for part in sarif["runs"] for i in part.get("invocations", []))
    assert drover.cache_folder not in json.dumps(sarif)
    assert "looking at planted" in drover.logs(run["id"])
    events = [event["state"] for event in drover.events(run["id"]) if "state" in event]
    assert events[-1] == "completed" and events.count("completed") == 1
    nothing_left(drover, run["id"])


def test_same_scan_gives_the_same_fingerprints(system, toolbox):
    toolbox.add("finds", REPORT)
    prints = set()
    for _ in range(2):
        run = system.drover.wait_run(system.drover.submit("finds")["id"], "completed")
        result = system.drover.findings(run["id"])["runs"][0]["results"][0]
        prints.add(json.dumps(result["partialFingerprints"], sort_keys=True))
    assert len(prints) == 1


def test_clean_scan_says_that_it_was_made(system, toolbox):
    toolbox.add("clean", "printf '%s' '{\"version\":\"2.1.0\",\"runs\":[{\"tool\":{\"driver\":{\"name\":\"t\"}},\"results\":[]}]}' > \"$OUT/main.sarif\"")
    run = system.drover.wait_run(system.drover.submit("clean")["id"], "completed")
    assert run["findings"]["total"] == 0
    assert system.drover.findings(run["id"])["runs"]


def test_artifacts_are_kept(system, toolbox):
    toolbox.add(
        "crashes",
        'mkdir -p "$OUT/crashes/deep" && printf boom > "$OUT/crashes/deep/1.bin" && printf no > "$OUT/other.bin"\n' + REPORT,
        artifacts=["crashes/**"],
    )
    drover = system.drover
    run = drover.wait_run(drover.submit("crashes")["id"], "completed")
    listed = {row["name"]: row for row in drover.get(f"/v1/run/{run['id']}/artifacts")["artifacts"]}
    name = next(name for name in listed if name.endswith("crashes/deep/1.bin"))
    assert drover.artifact(run["id"], name) == b"boom" and listed[name]["size_bytes"] == 4
    assert not [name for name in listed if "other.bin" in name]
    drover.call("GET", f"/v1/run/{run['id']}/artifact/..%2f..%2fresults.json").expect(400, 404)


def test_parameters_reach_the_step_with_defaults(system, toolbox):
    toolbox.add("shows", 'cat "$PARAMS_FILE"; exit 0', parameters=STRICT, steps=[
        {"name": "main", "run": ["sh", "${WORKFLOW_DIR}/main.sh"]}])
    drover = system.drover
    one = drover.wait_run(drover.submit("shows", params={"depth": 7})["id"], "completed")
    two = drover.wait_run(drover.submit("shows")["id"], "completed")
    assert '"depth":7' in drover.logs(one["id"]).replace(" ", "") and one["params"] == {"depth": 7}
    assert '"depth":3' in drover.logs(two["id"]).replace(" ", "") and two["params"] == {"depth": 3}


# What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params,word",
    [({"depth": 10}, "depth"), ({"depth": "3"}, "depth"), ({"dpeth": 3}, "dpeth"), ({"depth": 0}, "depth"), ({"depth": 1.5}, "depth")],
)
def test_bad_parameters_are_refused(shared_system, params, word):
    system, toolbox = shared_system
    toolbox.add("strict", REPORT, parameters=STRICT)
    drover = system.drover
    target = drover.upload({"a.txt": "x"})
    drover.wait_workflow("strict")
    body = {"workflow": "strict", "target": {"id": target["id"], "kind": "tree"}, "params": params}
    error = drover.call("POST", "/v1/runs", json=body).expect(400).json()["error"]
    assert error["code"] == "invalid" and word in error["message"] and error.get("hint"), error
    assert drover.runs(workflow="strict") == []


def test_unknown_workflow_is_refused(shared_system):
    drover = shared_system[0].drover
    target = drover.upload({"a.txt": "x"})
    body = {"workflow": "no_such", "target": {"id": target["id"], "kind": "tree"}}
    error = drover.call("POST", "/v1/runs", json=body).expect(404).json()["error"]
    assert "no_such" in error["message"] and error["hint"]


def test_unknown_target_is_refused(shared_system):
    system, toolbox = shared_system
    toolbox.add("finds", REPORT)
    drover = system.drover
    drover.wait_workflow("finds")
    body = {"workflow": "finds", "target": {"id": "01234567-89ab-8def-8123-456789abcdef", "kind": "tree"}}
    error = drover.call("POST", "/v1/runs", json=body).expect(404).json()["error"]
    assert "target" in error["message"] and "upload" in error["hint"].lower()


# Tools that fail -------------------------------------------------------------------------------------------------


def test_failing_tool_fails_the_run_once(system, toolbox):
    toolbox.add("breaks", "echo about to break; exit 3")
    drover = system.drover
    run = drover.wait_run(drover.submit("breaks")["id"], "failed")
    assert (run["fail_class"], run["attempt"], run["findings"]) == ("tool", 1, None)
    assert "3" in run["reason"] and "main" in run["reason"], run["reason"]
    assert "about to break" in drover.logs(run["id"])
    error = drover.call("GET", f"/v1/run/{run['id']}/findings").expect(404).json()["error"]
    assert run["reason"] in error["message"]
    assert outcomes(drover, run["id"]) == ["failed"]
    nothing_left(drover, run["id"])


@pytest.mark.parametrize(
    "script,word",
    [("exit 10", "sarif"), ("printf '{' > \"$OUT/main.sarif\"; exit 10", "sarif"), ("kill -SEGV $$", "signal"),
     ("exec ./not-there", "")],
    ids=["no report", "broken report", "signal", "no program"],
)
def test_tool_that_only_seems_to_work_fails_the_run(system, toolbox, script, word):
    toolbox.add("odd", script)
    run = system.drover.wait_run(system.drover.submit("odd")["id"], "failed")
    assert run["fail_class"] == "tool" and word in run["reason"].lower(), run["reason"]


def test_findings_of_a_failed_run_are_partial(system, toolbox):
    name = toolbox.add(
        "half",
        REPORT,
        steps=[
            {"name": "broken", "run": ["sh", "-c", "exit 3"], "findings": "sarif"},
            {"name": "main", "run": ["sh", "${WORKFLOW_DIR}/main.sh"], "findings": "sarif", "exit_codes": {"ok": [0], "findings": [10]}},
        ],
    )
    drover = system.drover
    run = drover.wait_run(drover.submit(name)["id"], "failed")
    assert run["partial"] and run["findings"]["error"] == 1 and run["fail_class"] == "tool"
    assert [step["name"] for step in run["steps"]] == ["broken", "main"]
    sarif = drover.findings(run["id"])
    assert any(not i["executionSuccessful"] for part in sarif["runs"] for i in part["invocations"])


def test_step_that_says_stop_stops_the_run(system, toolbox):
    name = toolbox.add("stops", REPORT, steps=[
        {"name": "gate", "run": ["sh", "-c", "exit 3"], "on_failure": "stop"},
        {"name": "main", "run": ["sh", "${WORKFLOW_DIR}/main.sh"], "findings": "sarif", "exit_codes": {"findings": [10]}},
    ])
    run = system.drover.wait_run(system.drover.submit(name)["id"], "failed")
    assert run["findings"] is None and run["steps"][1]["state"] == "skipped"


def test_run_that_takes_too_long_is_timed_out(system, toolbox):
    command, words = sleeper()
    toolbox.add("slow", announce("holding") + "trap '' TERM\n" + f"{command} & {command}; wait")
    drover = system.drover
    run = drover.submit("slow", timeout_ms=5000)
    look.started(words)
    run = drover.wait_run(run["id"], "timed_out")
    assert "time" in run["reason"] and outcomes(drover, run["id"]) == ["timed_out"]
    assert not look.processes(words)
    nothing_left(drover, run["id"])


# Cancelling ------------------------------------------------------------------------------------------------------


def test_cancel_while_queued(system, toolbox):
    toolbox.add("finds", REPORT)
    drover = system.drover
    run = drover.submit("finds", not_before="2099-01-01T00:00:00.000Z")
    assert drover.run(run["id"])["waiting"]["text"]
    assert drover.cancel(run["id"], reason="not needed")["state"] == "canceled"
    run = drover.run(run["id"])
    assert run["attempt"] == 0 and "not needed" in run["reason"]
    drover.call("POST", f"/v1/run/{run['id']}/cancel").expect(409)
    assert outcomes(drover, run["id"]) == ["canceled"]


def test_cancel_while_running_is_quick_and_kills_everything(system, toolbox):
    command, words = sleeper()
    toolbox.add("slow", f"setsid sh -c \"trap '' TERM; {command}; {command}\" &\n{command} &\n" + HOLD)
    drover, took = system.drover, []
    # DESIGN: within two seconds; twice that for a loaded machine, which may be slower still, but not each time.
    while min(took, default=4) >= 4 and len(took) < 4:
        run = drover.submit("slow")
        reached(drover, run["id"])
        look.started(words)
        began = time.monotonic()
        drover.cancel(run["id"], reason="enough")
        run = drover.wait_run(run["id"], "canceled")
        took.append(time.monotonic() - began)
        assert not look.processes(words)
        assert "enough" in run["reason"] and outcomes(drover, run["id"]) == ["canceled"]
        nothing_left(drover, run["id"])
    assert min(took) < 4, took


def test_cancel_twice_while_canceling(system, toolbox):
    command, words = sleeper()
    toolbox.add("stubborn", "trap '' TERM INT HUP\n" + announce("holding") + f"while :; do {command}; done")
    drover = system.drover
    run = drover.submit("stubborn")
    reached(drover, run["id"])
    first = drover.cancel(run["id"])
    assert first["state"] in ("canceling", "canceled")
    drover.call("POST", f"/v1/run/{run['id']}/cancel").expect(200, 409)
    drover.wait_run(run["id"], "canceled")
    assert outcomes(drover, run["id"]) == ["canceled"] and not look.processes(words)


# Crashes ---------------------------------------------------------------------------------------------------------


def test_worker_killed_mid_run_is_tried_again(system, toolbox):
    command, words = sleeper()
    toolbox.add("slow", f"{command} &\n" + HOLD + REPORT)
    drover = system.drover
    run = drover.submit("slow")
    reached(drover, run["id"])
    pids = look.started(words)
    system.kill_worker(run["id"])
    wait.until("the tools of the dead worker to be gone", lambda: not set(pids) & set(look.processes(words)))
    system.bring_workers()
    reached(drover, run["id"], attempt=2)
    go_on(drover, run["id"])
    run = drover.wait_run(run["id"], "completed")
    assert run["attempt"] == 2 and run["findings"]["error"] == 1
    assert outcomes(drover, run["id"]) == ["completed"]
    wait.until("the first attempt's tools to be gone", lambda: not look.processes(words))
    nothing_left(drover, run["id"])


def test_progress_is_that_of_the_present_attempt(system, toolbox):
    toolbox.add("slow", 'until [ -e "$OUT/begin" ]; do sleep 0.05; done\n' + HOLD + REPORT)
    drover = system.drover
    run = drover.submit("slow")
    drover.wait_run(run["id"], "running")
    wait.until("the first attempt to begin", lambda: go_on(drover, run["id"], "begin"))
    reached(drover, run["id"])
    system.kill_worker(run["id"])
    system.bring_workers()
    again = wait.until("the second attempt", lambda: (r := drover.run(run["id"]))["attempt"] == 2 and r["state"] == "running" and r, 60)
    assert again["progress"] is None and drover.run(run["id"])["progress"] is None

    def begun():
        """Told again and again: the folder may still be the first attempt's, which goes."""
        go_on(drover, run["id"], "begin")
        return drover.run(run["id"])["progress"]

    wait.until("the second attempt to begin", begun)
    reached(drover, run["id"], attempt=2)
    go_on(drover, run["id"])
    drover.wait_run(run["id"], "completed")


def test_dispatcher_killed_mid_run_loses_nothing(system, toolbox):
    toolbox.add("slow", HOLD + REPORT)
    drover = system.drover
    run = drover.submit("slow")
    reached(drover, run["id"])
    drover.kill9()
    drover.start()
    go_on(drover, run["id"])
    run = drover.wait_run(run["id"], "completed")
    assert run["attempt"] == 1 and run["findings"]["error"] == 1
    assert outcomes(drover, run["id"]) == ["completed"]


def test_run_that_ends_while_the_dispatcher_is_away_is_known_after_it(system, toolbox):
    command, words = sleeper()
    toolbox.add("slow", f"{command} &\n" + HOLD + REPORT)
    drover = system.drover
    run = drover.submit("slow")
    reached(drover, run["id"])
    look.started(words)
    drover.kill9()
    go_on(drover, run["id"])
    look.gone(words)
    drover.start()
    run = drover.wait_run(run["id"], "completed")
    assert run["attempt"] == 1 and outcomes(drover, run["id"]) == ["completed"]


def test_worker_and_dispatcher_killed_mid_run(system, toolbox):
    toolbox.add("slow", HOLD + REPORT)
    drover = system.drover
    run = drover.submit("slow")
    reached(drover, run["id"])
    system.kill_worker(run["id"])
    drover.kill9()
    drover.start()
    system.bring_workers()
    reached(drover, run["id"], attempt=2, timeout_s=90)
    go_on(drover, run["id"])
    assert drover.wait_run(run["id"], "completed")["attempt"] == 2
    assert outcomes(drover, run["id"]) == ["completed"]


# Commits: 1 the epoch of this start, later ones the submission, the lease, the report. Each is hit by one of these.
@pytest.mark.parametrize("point", [f"dispatcher.{when}_commit:{n}" for when in ("before", "after") for n in (2, 3, 4, 5)])
def test_dispatcher_dies_around_a_commit(system, toolbox, point):
    toolbox.add("finds", REPORT)
    drover = system.drover
    target = drover.upload({"a.txt": "planted"})
    drover.stop()
    drover.settings["DROVER_FAULT"] = point
    drover.start(ready=False)
    run = submit_through_crashes(drover, target, "key-1")
    drover.settings.pop("DROVER_FAULT", None)
    if not drover.alive():
        drover.start()
    run = drover.wait_run(run["id"], "completed")
    assert outcomes(drover, run["id"]) == ["completed"] and run["findings"]["error"] == 1
    assert [row["id"] for row in drover.runs()] == [run["id"]]
    # The fault must have struck, or this story tells nothing.
    assert drover.crashes, f"{point} was never reached"


def submit_through_crashes(drover, target, key):
    """Submit under a key again and again until it is acknowledged; the dispatcher is started again where it died."""
    body = {"workflow": "finds", "idempotency_key": key, "target": {"id": target["id"], "name": "t.tar.gz", "kind": "tree"}}
    drover.crashes = 0

    def revive():
        if not drover.alive():
            drover.crashes += 1
            drover.settings.pop("DROVER_FAULT", None)
            drover.start()

    def attempt():
        revive()
        answer = drover.call("POST", "/v1/runs", json=body)
        return answer.json()["run"] if answer.status in (200, 201) else None

    run = wait.until("the submission to be acknowledged", attempt)

    def settled():
        revive()
        return drover.run(run["id"])["state"] in FINAL

    wait.until("the run to end in spite of the crash", settled, 60)
    return run


def test_queued_runs_survive_a_restart(system, toolbox):
    toolbox.add("finds", REPORT)
    drover = system.drover
    target = drover.upload({"a.txt": "planted"})
    ids = [drover.submit("finds", target, not_before="2099-01-01T00:00:00.000Z")["id"] for _ in range(20)]
    drover.kill9()
    drover.start()
    assert {run["id"] for run in drover.runs(state="queued")} == set(ids)
    soon = drover.submit("finds", target)
    drover.wait_run(soon["id"], "completed")


# Many ------------------------------------------------------------------------------------------------------------


def test_one_submission_under_one_key(system, toolbox):
    toolbox.add("finds", REPORT)
    drover = system.drover
    target = drover.upload({"a.txt": "planted"})
    drover.wait_workflow("finds")
    body = {"workflow": "finds", "idempotency_key": "one", "target": {"id": target["id"], "name": "t", "kind": "tree"}}
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(drover.call("POST", "/v1/runs", json=body))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [200] * 15 + [201]
    assert len({answer.json()["run"]["id"] for answer in answers}) == 1
    other = drover.call("POST", "/v1/runs", json={**body, "priority": 1}).expect(409).json()["error"]
    assert other["code"] == "conflict" and other["hint"]
    run = drover.wait_run(answers[0].json()["run"]["id"], "completed")
    assert drover.call("POST", "/v1/runs", json=body).expect(200).json()["run"]["id"] == run["id"]
    assert len(drover.runs()) == 1


# Confinement -----------------------------------------------------------------------------------------------------

CONFINED = """
import glob, json, os, socket, sys
told = {}
told["environment"] = sorted(os.environ)
told["uid"] = os.geteuid()
told["others"] = [p for p in glob.glob("/proc/[0-9]*/cmdline") if b"drover-" in open(p, "rb").read()]
def reaches(address):
    try:
        socket.create_connection(address, timeout=1).close()
        return True
    except OSError:
        return False
told["reaches"] = [p for p in PORTS if reaches(("127.0.0.1", p))]
def readable(path):
    try:
        return bool(os.listdir(path)) if os.path.isdir(path) else bool(open(path, "rb").read(1))
    except OSError:
        return False
told["readable"] = [p for p in PATHS if readable(p)]
def writable(folder):
    try:
        path = os.path.join(folder, "probe-%d" % os.getpid())
        open(path, "w").close()
        os.unlink(path)
        return True
    except OSError:
        return False
told["writable"] = [p for p in ["/", "/etc", "/usr", "/usr/bin", "/var", "/root", "/home", "/proc/sys", os.environ["WORKFLOW_DIR"]] if writable(p)]
told["capabilities"] = [l.split()[1] for l in open("/proc/self/status") if l.startswith("CapEff")][0]
told["no_new_privs"] = [l.split()[1] for l in open("/proc/self/status") if l.startswith("NoNewPrivs")][0]
try:
    os.kill(1, 0); told["pid1"] = open("/proc/1/cmdline").read()
except OSError as e:
    told["pid1"] = ""
print("TOLD " + json.dumps(told), flush=True)
"""
# The whole of what docs/WORKFLOWS.md promises a step, and what a libc needs.
STEP_ENVIRONMENT = {"TARGET_DIR", "OUT", "SCRATCH", "HOME", "TMPDIR", "PARAMS_FILE", "RUN_ID", "WORKFLOW_DIR", "PATH", "LANG",
                    "LC_ALL", "LC_CTYPE", "TZ", "PWD", "OLDPWD", "SHLVL", "_", "USER", "LOGNAME", "TERM", "STEP", "STEP_NAME"}


def test_step_is_confined(system, toolbox):
    drover = system.drover
    toolbox.add("other", HOLD + REPORT)
    victim = drover.submit("other")
    reached(drover, victim["id"])
    folder = run_folder(drover, victim["id"])
    paths = [drover.data_folder, drover.cache_folder, folder, os.path.join(folder, "out"), "/root", "/etc/shadow",
             drover.settings.get("STORE_DIR", "/nonexistent"), drover.rig.logs, "/proc/1/environ", "/proc/1/root/root"]
    code = CONFINED.replace("PORTS", json.dumps(system.ports())).replace("PATHS", json.dumps(paths))
    toolbox.add("nosy", f"python3 - <<'END'\n{code}\nEND")
    run = drover.submit("nosy")
    run = drover.wait_run(run["id"])
    log = drover.logs(run["id"])
    told = json.loads(next(line.split("TOLD ", 1)[1] for line in log.splitlines() if "TOLD " in line))
    assert set(told["environment"]) <= STEP_ENVIRONMENT, set(told["environment"]) - STEP_ENVIRONMENT
    assert told["uid"] != 0 or os.geteuid() != 0
    assert told["others"] == [] and told["reaches"] == [], told
    assert [path for path in told["readable"] if path != "/root" or os.geteuid() != 0] == [], told["readable"]
    assert told["writable"] == [] and told["no_new_privs"] == "1" and int(told["capabilities"], 16) == 0, told
    assert run["sandbox"]["rung"] >= 1
    go_on(drover, victim["id"])
    drover.wait_run(victim["id"], "completed")


def test_no_secret_is_in_what_users_see(system, toolbox):
    toolbox.add("env", "env; cat /proc/self/environ /proc/1/environ 2>&1; ls -la / 2>&1\n" + REPORT)
    drover = system.drover
    run = drover.wait_run(drover.submit("env")["id"], "completed")
    text = drover.logs(run["id"]) + json.dumps(run) + drover.call("GET", "/metrics").text
    for secret in system.secrets():
        assert secret not in text


def test_target_is_private_to_the_run(system, toolbox):
    """A run may change its tree; the next one sees the target as it was."""
    toolbox.add("spoils", 'test "$(cat "$TARGET_DIR/a.txt")" = planted || exit 3\necho spoiled > "$TARGET_DIR/a.txt"\n'
                'rm -rf "$TARGET_DIR/sub"; chmod 777 "$TARGET_DIR"\n' + REPORT)
    drover = system.drover
    target = drover.upload({"a.txt": "planted", "sub/b.txt": "b"})
    for _ in range(2):
        drover.wait_run(drover.submit("spoils", target)["id"], "completed")


def test_shared_tree_is_read_only(system, toolbox):
    toolbox.add("spoils", 'echo x > "$TARGET_DIR/a.txt" && exit 3\nrm -f "$TARGET_DIR/a.txt" 2>/dev/null && exit 3\n' + REPORT,
                workspace_isolation="shared")
    run = system.drover.wait_run(system.drover.submit("spoils")["id"])
    assert run["state"] == "completed", run["reason"]


def test_single_file_target(system, toolbox):
    toolbox.add("one", 'test -z "$TARGET_DIR" && test "$(cat "$TARGET_FILE")" = bytes && basename "$TARGET_FILE"\n' + REPORT, target="any")
    drover = system.drover
    target = drover.upload(b"bytes", filename="app.apk")
    run = drover.wait_run(drover.submit("one", target, kind="file")["id"], "completed")
    assert "app.apk" in drover.logs(run["id"])


def test_memory_hog_is_out_of_memory(system, toolbox):
    toolbox.add("hog", "exec python3 -c 'x = [b\"x\" * (1 << 20) * (1 + i - i) for i in range(4096)]'", resources={"memory": "64Mi"})
    drover = system.drover
    run = drover.wait_run(drover.submit("hog")["id"], "failed", timeout_s=90)
    # Once more in the larger class where there is one, then dead.
    wanted = ("large", 2) if system.has_classes else ("normal", 1)
    assert (run["class"], run["attempt"], run["fail_class"], run["dead"]) == (*wanted, "oom", True), run
    assert outcomes(drover, run["id"]) == ["failed"]


def test_ten_megabytes_of_log_come_out(system, toolbox):
    toolbox.add("loud", "yes 0123456789abcdef | head -c 10485760\necho the-end\n" + REPORT)
    drover = system.drover
    run = drover.wait_run(drover.submit("loud")["id"], "completed", timeout_s=300)
    assert "the-end" in drover.logs(run["id"])
    answer = drover.call("GET", f"/v1/run/{run['id']}/logs?offset=10000000").expect(200)
    assert int(answer.headers["x-drover-log-offset"]) >= 10000000 and answer.text.rstrip().endswith("the-end") or "the-end" in answer.text


def test_log_can_be_followed(system, toolbox):
    toolbox.add("talks", "echo first-line\n" + HOLD + "echo last-line\n" + REPORT)
    drover = system.drover
    run = drover.submit("talks")
    reached(drover, run["id"])
    wait.until("the log's beginning", lambda: "first-line" in drover.logs(run["id"]))
    got = []
    follower = threading.Thread(
        target=lambda: got.append(drover.call("GET", f"/v1/run/{run['id']}/logs?follow=true", timeout_s=90).text)
    )
    follower.start()
    go_on(drover, run["id"])
    drover.wait_run(run["id"], "completed")
    follower.join(90)
    assert got and "first-line" in got[0] and "last-line" in got[0]


def test_worker_that_is_asked_to_stop_hands_its_run_back(system, toolbox):
    command, words = sleeper()
    toolbox.add("slow", f"{command} &\n" + HOLD + REPORT)
    drover = system.drover
    run = drover.submit("slow")
    reached(drover, run["id"])
    system.signal_worker(run["id"], signal.SIGTERM)
    wait.until("the run to be queued again", lambda: drover.run(run["id"])["attempt"] > 1 or drover.run(run["id"])["state"] == "queued")
    system.bring_workers()
    reached(drover, run["id"], attempt=2)
    go_on(drover, run["id"])
    run = drover.wait_run(run["id"], "completed")
    # Off the budget: it was nobody's failure.
    assert outcomes(drover, run["id"]) == ["completed"]
    assert any("hand" in row["reason"] or "drain" in row["reason"] or "stop" in row["reason"] for row in run["history"]), run["history"]
    look.gone(words)
