"""What only exists with Nomad: dispatched jobs, operators, crashes of the servers, placement."""

import os
import secrets
import threading

import pytest

from conftest import QUICK
from rig import Drover, binaries, sweep, wait
from rig.drover import FINAL
from rig.nomad import MEMORY_MB
from rig.toolbox import REPORT, Toolbox
from stories import look
from stories.runs import nothing_left, outcomes, submit_through_crashes
from stories.steps import HOLD, go_on, reached

PARENT = "drover-run-story"


def holding(system, toolbox, name="slow"):
    """A run whose step waits for go_on(), and the job and allocation it is in."""
    toolbox.add(name, HOLD + REPORT)
    run = system.drover.submit(name)
    reached(system.drover, run["id"])
    return (run["id"], *system.drover.child(run["id"]))


def finish(drover, run_id, state="completed", attempt=None):
    if attempt:
        reached(drover, run_id, attempt=attempt, timeout_s=90)
    go_on(drover, run_id)
    run = drover.wait_run(run_id, state, timeout_s=90)
    assert outcomes(drover, run_id) == [state]
    nothing_left(drover, run_id)
    return run


def live_children(drover):
    """Children of this dispatcher's parents that Nomad has not finished."""
    return [job for job in drover.rig.nomad.jobs(namespace=drover.namespace) if job["ParentID"] and job["Status"] != "dead"]


# As an operator sees it ------------------------------------------------------------------------------------------


def test_operator_sees_the_run_as_a_dispatched_job(system, toolbox):
    toolbox.add("slow", "echo words-of-the-tool\n" + HOLD + REPORT)
    drover, nomad = system.drover, system.rig.nomad
    run = drover.submit("slow")
    reached(drover, run["id"])
    job, alloc = drover.child(run["id"])
    assert job.startswith(PARENT + "/dispatch-")
    status = nomad.cli("job", "status", job, namespace=drover.namespace).stdout
    assert "running" in status and alloc[:8] in status
    assert PARENT in nomad.cli("job", "status", namespace=drover.namespace).stdout
    wait.until(
        "nomad alloc logs to show the tool's output",
        lambda: "words-of-the-tool" in nomad.cli("alloc", "logs", alloc, namespace=drover.namespace, check=False).stdout
        or "words-of-the-tool" in nomad.cli("alloc", "logs", "-stderr", alloc, namespace=drover.namespace, check=False).stdout,
    )
    finish(drover, run["id"])
    assert drover.run(run["id"])["job_id"] == job
    wait.until("the recorded child to be purged", lambda: nomad.job(job, drover.namespace) is None, 60)
    wait.until("no child to be left", lambda: not live_children(drover))


def test_parents_are_registered_once_and_left_alone(system, toolbox):
    toolbox.add("finds", REPORT)
    drover, nomad = system.drover, system.rig.nomad
    job = wait.until("the parent", lambda: nomad.job(PARENT, drover.namespace))
    large = wait.until("the parent of large ones", lambda: nomad.job(PARENT + "-large", drover.namespace))
    assert job["ParameterizedJob"] and large["ParameterizedJob"]
    group = job["TaskGroups"][0]
    assert group["RestartPolicy"]["Attempts"] == 0 and group["ReschedulePolicy"]["Attempts"] == 0
    drover.restart()
    # It has looked at its parents once it dispatches to one.
    drover.wait_run(drover.submit("finds")["id"], "completed")
    again = nomad.job(PARENT, drover.namespace)
    assert (again["Version"], again["JobModifyIndex"]) == (job["Version"], job["JobModifyIndex"])


def test_parent_that_was_removed_comes_back(system, toolbox):
    toolbox.add("finds", REPORT)
    drover, nomad = system.drover, system.rig.nomad
    wait.until("the parent", lambda: nomad.job(PARENT, drover.namespace))
    nomad.stop_job(PARENT, purge=True, namespace=drover.namespace)
    drover.wait_run(drover.submit("finds")["id"], "completed")


def test_run_dispatched_by_hand(system, toolbox):
    toolbox.add("slow", HOLD + REPORT, parameters={"type": "object", "properties": {"depth": {"type": "integer"}}})
    drover, nomad = system.drover, system.rig.nomad
    target = drover.upload({"a.txt": "planted"})
    drover.wait_workflow("slow")
    wait.until("the parent", lambda: nomad.job(PARENT, drover.namespace))
    done = nomad.cli("job", "dispatch", "-detach", "-meta", "workflow=slow", "-meta", f"target={target['id']}", "-meta",
                     'parameters={"depth":3}', PARENT, namespace=drover.namespace)
    child = next(word for word in done.stdout.split() if word.startswith(PARENT + "/dispatch-"))
    run = wait.until("the adopted run", lambda: next(iter(drover.runs()), None))
    assert run["adopted"] and run["job_id"] in ("", child)
    reached(drover, run["id"])
    assert drover.run(run["id"])["job_id"] == child and drover.run(run["id"])["params"] == {"depth": 3}
    finish(drover, run["id"])
    assert len(drover.runs()) == 1


@pytest.mark.parametrize("meta,word", [({"workflow": "no_such"}, "no_such"), ({"target": "00000000"}, "target"), ({"parameters": "{"}, "param")])
def test_bad_dispatch_by_hand_fails_its_job(system, toolbox, meta, word):
    toolbox.add("finds", REPORT)
    drover, nomad = system.drover, system.rig.nomad
    target = drover.upload({"a.txt": "planted"})
    drover.wait_workflow("finds")
    wait.until("the parent", lambda: nomad.job(PARENT, drover.namespace))
    child = nomad.dispatch(PARENT, drover.namespace, **{"workflow": "finds", "target": target["id"], **meta})
    alloc = nomad.wait_alloc(child, "failed", "complete", namespace=drover.namespace)
    assert alloc["ClientStatus"] == "failed"
    task = list(alloc["TaskStates"])[0]
    wait.until("the task to say why", lambda: word in nomad.logs(alloc["ID"], task) + nomad.logs(alloc["ID"], task, "stderr"))
    assert drover.runs() == []


# Cancelling and stopping -----------------------------------------------------------------------------------------


def test_cancel_while_asked_of_nomad_but_not_placed(rig, toolbox):
    """The child exists and waits for a place: the run is canceled at once, the request withdrawn when its time is over."""
    toolbox.add("finds", REPORT)
    drover = Drover(rig, toolbox, {**QUICK, "DROVER_DATACENTERS": "nowhere", "REQUEST_TTL": "8s"}).start()
    try:
        run = drover.submit("finds")
        wait.until("the child", lambda: live_children(drover))
        told = wait.until("the reason", lambda: waiting(drover, run["id"], "unplaceable"))
        assert told["text"]
        assert drover.cancel(run["id"])["state"] == "canceled"
        wait.until("the child to be withdrawn", lambda: not live_children(drover), 60)
        assert outcomes(drover, run["id"]) == ["canceled"]
    finally:
        drover.close()


def waiting(drover, run_id, code=None):
    """What status says about why the run waits, once it says this code."""
    told = drover.run(run_id)["waiting"]
    return told if told and (code is None or code in told["code"]) else None


def test_operator_stops_the_job(system, toolbox):
    run_id, job, _ = holding(system, toolbox)
    system.rig.nomad.cli("job", "stop", "-detach", job, namespace=system.drover.namespace)
    run = system.drover.wait_run(run_id, "canceled")
    assert outcomes(system.drover, run_id) == ["canceled"] and run["reason"]
    nothing_left(system.drover, run_id)


def test_operator_stops_the_allocation(system, toolbox):
    run_id, _, alloc = holding(system, toolbox)
    system.rig.nomad.cli("alloc", "stop", "-detach", alloc, namespace=system.drover.namespace)
    drover = system.drover
    wait.until("the run to be in another allocation", lambda: drover.run(run_id)["alloc_id"] not in ("", alloc), 90)
    finish(drover, run_id, attempt=2)


def test_drained_node_hands_its_runs_back(system, toolbox, rig):
    run_id, _, alloc = holding(system, toolbox)
    other = rig.add_client()
    try:
        rig.client.drain(2)
        drover = system.drover
        wait.until("the run to be in another allocation", lambda: drover.run(run_id)["alloc_id"] not in ("", alloc), 90)
        finish(drover, run_id, attempt=2)
    finally:
        rig.client.eligible()
        rig.remove_client(other)


# Crashes of the servers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["pump.before_dispatch", "pump.after_dispatch", "pump.before_purge", "pump.after_purge"])
def test_dispatcher_dies_around_a_call_to_nomad(system, toolbox, point):
    toolbox.add("finds", REPORT)
    drover = system.drover
    target = drover.upload({"a.txt": "planted"})
    drover.stop()
    drover.settings["DROVER_FAULT"] = point
    drover.start(ready=False)
    run = submit_through_crashes(drover, target, "key-1")

    def struck():
        if not drover.alive():
            drover.crashes += 1
            drover.settings.pop("DROVER_FAULT", None)
            drover.start()
        return drover.crashes

    wait.until(f"{point} to strike", struck, 60)
    run = drover.wait_run(run["id"], "completed")
    assert outcomes(drover, run["id"]) == ["completed"] and len(drover.runs()) == 1
    wait.until("all children to be purged", lambda: not [j for j in drover.rig.nomad.jobs(namespace=drover.namespace) if j["ParentID"]], 60)


@pytest.mark.parametrize("who", ["nomad", "client", "minio", "consul"])
def test_server_is_killed_mid_run_and_comes_back(system, toolbox, rig, who):
    run_id, _, _ = holding(system, toolbox)
    server = getattr(rig, who)
    server.kill9()
    drover = system.drover
    # Status is told all the while.
    assert drover.run(run_id)["state"] == "running"
    server.start()
    run = finish(drover, run_id)
    assert run["findings"]["error"] == 1 and run["attempt"] == 1
    # Consul looks at MinIO anew after either of them was away: until then there is no place for another target.
    rig.minio.announce()
    after = drover.wait_run(drover.submit("slow")["id"], "running")
    finish(drover, reached(drover, after["id"])["id"])


@pytest.mark.parametrize("who", ["nomad", "minio", "consul"])
def test_run_ends_while_a_server_is_away(system, toolbox, rig, who):
    run_id, _, _ = holding(system, toolbox)
    server = getattr(rig, who)
    server.kill9()
    drover = system.drover
    go_on(drover, run_id)
    if who != "minio":
        drover.wait_run(run_id, "completed")
        server.start()
    else:
        # The results have no place to go to: the run must not end before there is one.
        wait.until("the dispatcher to notice", lambda: drover.get("/v1/agent/health")["components"]["store"] != "ok", 60)
        assert drover.run(run_id)["state"] not in FINAL
        server.start()
        drover.rig.minio.announce()
        release_until_final(drover, run_id)
    run = drover.wait_run(run_id, "completed", timeout_s=90)
    assert outcomes(drover, run_id) == ["completed"] and run["findings"]["error"] == 1


def release_until_final(drover, run_id):
    """Let every attempt go on until the run has ended."""

    def probe():
        try:
            go_on(drover, run_id)
        except LookupError:
            pass
        return drover.run(run_id)["state"] in FINAL

    wait.until(f"run {run_id} to end", probe, 120)


def test_submissions_while_nomad_is_away_are_kept(system, toolbox, rig):
    toolbox.add("finds", REPORT)
    drover = system.drover
    target = drover.upload({"a.txt": "planted"})
    drover.wait_workflow("finds")
    rig.nomad.kill9()
    ids = [drover.submit("finds", target)["id"] for _ in range(3)]
    told = wait.until("status to say why", lambda: waiting(drover, ids[0], "nomad") or waiting(drover, ids[0]))
    assert told["text"]
    rig.nomad.start()
    for run_id in ids:
        drover.wait_run(run_id, "completed", timeout_s=90)
        assert outcomes(drover, run_id) == ["completed"]


def test_node_that_is_lost_costs_one_attempt(system, toolbox, rig):
    """The node's client and everything on it die; another node takes over."""
    other = rig.add_client()
    try:
        run_id, _, alloc = holding(system, toolbox)
        node_name = rig.nomad.get(f"/v1/allocation/{alloc}")["NodeName"]
        victim = next(client for client in rig.clients if client.name == node_name)
        victim.kill9()
        sweep.kill_processes(victim.claim())
        finish(system.drover, run_id, attempt=2)
        victim.start()
    finally:
        rig.heal()
        rig.remove_client(other)


def test_minio_moves_to_another_address(system, toolbox, rig):
    run_id, _, _ = holding(system, toolbox)
    rig.minio.move()
    drover = system.drover
    run = finish(drover, run_id)
    assert run["findings"]["error"] == 1
    fresh = drover.submit("slow")
    finish(drover, reached(drover, fresh["id"])["id"])


# Many ------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(900)
def test_two_hundred_runs_through_a_window_of_eight(system, toolbox):
    toolbox.add("finds", REPORT)
    drover = system.drover
    target = drover.upload({"a.txt": "planted"})
    drover.wait_workflow("finds")
    most, over = [0], threading.Event()

    def sample():
        while not over.is_set():
            most[0] = max(most[0], len(live_children(drover)))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        ids = [drover.submit("finds", target)["id"] for _ in range(200)]
        wait.until("all to end", lambda: all(run["state"] in FINAL for run in drover.runs(limit=1000)), 720)
    finally:
        over.set()
        sampler.join()
    runs = drover.runs(limit=1000)
    assert {run["id"] for run in runs} == set(ids) and {run["state"] for run in runs} == {"completed"}
    assert {run["attempt"] for run in runs} == {1}
    assert 1 <= most[0] <= 8, most
    wait.until("all children to be purged", lambda: not [j for j in drover.rig.nomad.jobs(namespace=drover.namespace) if j["ParentID"]], 60)
    assert look.run_folders(drover.cache_folder) == []


# Why a run waits -------------------------------------------------------------------------------------------------


def test_status_says_that_the_window_is_full(rig, toolbox):
    toolbox.add("slow", HOLD + REPORT)
    drover = Drover(rig, toolbox, {**QUICK, "DROVER_WINDOW": "1"}).start()
    try:
        first = drover.submit("slow")
        reached(drover, first["id"])
        second = drover.submit("slow", first["target"] | {"filename": "t.tar.gz"})
        wait.until("the reason", lambda: (w := waiting(drover, second["id"])) and "window" in w["code"] + w["text"])
        go_on(drover, first["id"])
        reached(drover, second["id"])
        go_on(drover, second["id"])
        drover.wait_run(second["id"], "completed")
    finally:
        drover.close()


def test_status_says_why_nomad_cannot_place_it(rig, toolbox):
    toolbox.add("finds", REPORT)
    drover = Drover(rig, toolbox, {**QUICK, "DROVER_DATACENTERS": "nowhere"}).start()
    try:
        run = drover.submit("finds")
        told = wait.until("the reason", lambda: waiting(drover, run["id"], "unplaceable"), 60)
        assert "datacenter" in told["text"] or "node" in told["text"], told
        assert told["text"] in drover.cli("status", run["id"]).stdout
        shown = drover.cli_json("explain", run["id"])["explain"]
        assert told["text"] in shown["summary"] and [r["state"] for r in shown["requests"]] == ["dispatched"]
        assert shown["requests"][0]["job_id"] in drover.cli("explain", run["id"]).stdout
    finally:
        drover.close()


def test_what_no_node_can_serve_fails_where_that_is_wanted(rig, toolbox):
    toolbox.add("finds", REPORT)
    drover = Drover(rig, toolbox, {**QUICK, "DROVER_DATACENTERS": "nowhere", "UNPLACEABLE_LIMIT": "3s"}).start()
    try:
        run = drover.wait_run(drover.submit("finds")["id"], "failed")
        assert run["fail_class"] == "invalid" and "no node can serve it" in run["reason"] and run["attempt"] == 0
        assert "no node" in drover.cli("explain", run["id"]).stdout
    finally:
        drover.close()


LARGE = {"cpu": "1000m", "memory": f"{MEMORY_MB * 2 // 3}MiB"}


def test_run_that_is_too_large_for_every_node_is_told_so(rig, toolbox):
    """Nomad says the same of nodes that are too small as of busy ones; told within seconds, and given up where that is wanted."""
    toolbox.vertical(capacity="job", classes={"normal": {"cpu": "500m", "memory": "512Mi"}, "large": {"cpu": "1000m", "memory": "100GiB"}})
    toolbox.add("huge", REPORT, resources={"memory": "90GiB"})
    drover = Drover(rig, toolbox, QUICK).start()
    try:
        run = drover.submit("huge")["id"]
        told = wait.until("the reason", lambda: waiting(drover, run, "unplaceable"))
        assert told["text"] == f"no node has 102400 MB of memory; the largest has {MEMORY_MB}"
        assert told["text"] in drover.cli("explain", run).stdout
        drover.stop()
        drover.settings["UNPLACEABLE_LIMIT"] = "2s"
        drover.start()
        failed = drover.wait_run(run, "failed")
        assert failed["fail_class"] == "invalid" and "no node has 102400 MB" in failed["reason"] and failed["attempt"] == 0
    finally:
        drover.close()


def test_run_that_waits_for_a_busy_node_is_not_given_up(rig, toolbox):
    toolbox.vertical(capacity="job", slots=1, classes={"normal": LARGE, "large": LARGE})
    toolbox.add("slow", HOLD + REPORT)
    drover = Drover(rig, toolbox, {**QUICK, "UNPLACEABLE_LIMIT": "1s"}).start()
    try:
        first, second = drover.submit("slow")["id"], drover.submit("slow")["id"]
        reached(drover, first)
        told = wait.until("the reason", lambda: waiting(drover, second, "placement"))
        assert "memory exhausted" in told["text"]
        # One that may wait for so long is gone, and it still waits.
        bounded = drover.submit("slow", max_wait_ms=3000)["id"]
        assert drover.wait_run(bounded, "failed")["fail_class"] == "timeout"
        wait.until("it still to wait for memory", lambda: (w := waiting(drover, second, "placement")) and "memory exhausted" in w["text"])
        go_on(drover, first)
        reached(drover, second)
        go_on(drover, second)
        assert drover.wait_run(second, "completed")["attempt"] == 1
    finally:
        drover.close()


def test_status_says_that_the_worker_cannot_be_started(rig, toolbox):
    toolbox.add("finds", REPORT)
    drover = Drover(rig, toolbox, {**QUICK, "WORKER_COMMAND": "/nonexistent/drover-worker"}).start()
    try:
        run = drover.submit("finds")
        told = wait.until("the reason", lambda: (w := waiting(drover, run["id"])) and "nonexistent" in w["text"] and w, 60)
        assert told
        assert drover.run(run["id"])["state"] == "queued"
    finally:
        drover.close()


# Docker ----------------------------------------------------------------------------------------------------------


def test_run_comes_to_findings_in_a_container(rig, engine):
    """One container for one run: no capability, a read-only root, another user, the cache on a host volume."""
    program = binaries.drover("drover-worker")
    # Not where it was built: that may be below /tmp, which a task has for itself.
    inside = "/usr/local/bin/drover-worker"
    image = engine.image_from_host(f"story-{rig.id}:test", [program, "/bin/sh", "true", "cat", "grep", "id"], {inside: program})
    toolbox = Toolbox(os.path.join(rig.folder, f"toolbox-{secrets.token_hex(3)}"), driver="docker", image=image)
    toolbox.add("finds", "id -u; grep CapEff /proc/self/status\n" + REPORT)
    os.chmod(rig.client.cache_folder, 0o777)
    settings = {"DROVER_DRIVER": "docker", "DOCKER_NETWORK": "host", "CACHE_VOLUME": "drover-cache", "WORKER_ENV_FILE": "", "WORKER_COMMAND": inside}
    drover = Drover(rig, toolbox, {**QUICK, **settings}).start()
    try:
        run = drover.wait_run(drover.submit("finds")["id"], "completed")
        assert run["findings"]["error"] == 1 and run["sandbox"]["rung"] >= 1
        assert "65534" in drover.logs(run["id"])
    finally:
        drover.close()
