"""kill -9 of dispatcher, autoscaler and workers in random order under load: then every run has exactly one outcome.

The test keeps its own ledger of what it submitted. CHAOS_S: how long (default 120 s). The seed is printed; CHAOS_SEED repeats a
schedule, as far as several programs under load can be repeated.
"""

import contextlib
import os
import random
import signal
import threading
import time

import pytest
from rig import wait
from rig.autoscale import Autoscaler, count, live, tune
from rig.drover import FINAL, Drover
from rig.toolbox import REPORT

DURATION_S = float(os.environ.get("CHAOS_S", "120"))
SETTINGS = {"LEASE_TTL": "5s", "BACKOFF_BASE": "50ms", "BACKOFF_CAP": "1s", "RECONCILE_INTERVAL": "5s", "MAX_LOST": "50",
            "MAX_CRASHES": "50", "MAX_INFRA": "50", "DROVER_WINDOW": "3"}
PACE_S = 0.15  # between submissions
LEAST_KILLED = 3


class Submitter(threading.Thread):
    """Submits under keys of its own for as long as it may; `runs` is its ledger: {key: id of the run that was acknowledged}."""

    def __init__(self, drover, target):
        super().__init__(daemon=True)
        self.drover, self.target = drover, target
        self.over = threading.Event()
        self.runs, self.refused = {}, 0

    def submit(self, key):
        """Until it is acknowledged: a dispatcher that is away, or dies before it answers, is asked again under the same key."""
        body = {"workflow": "work", "target": {"id": self.target["id"], "name": "t", "kind": "tree"}, "idempotency_key": key}
        while True:
            with contextlib.suppress(OSError):
                answer = self.drover.call("POST", "/v1/runs", json=body)
                if answer.status in (200, 201):
                    self.runs[key] = answer.json()["run"]["id"]
                    return
            self.refused += 1
            if self.over.wait(0.05):
                return  # never acknowledged: no promise was made

    def run(self):
        number = 0
        while not self.over.wait(PACE_S):
            number += 1
            self.submit(f"key-{number}")


def kill_one_worker(drover, dice):
    """Kill -9 of one of the processes that are tasks of a worker group or one-shots now; whether there was one."""
    pids = [pid for alloc in live(drover.rig.nomad, drover.namespace) for pid in [task_pid(drover, alloc["ID"])] if pid]
    if not pids:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(dice.choice(pids), signal.SIGKILL)
    return True


def task_pid(drover, alloc):
    with contextlib.suppress(LookupError, OSError, AssertionError):
        return drover.rig.client.task_pid(alloc)
    return None


def outcomes(drover, run_id):
    """How often the run's history came to a final state."""
    return [moment["state"] for moment in drover.run(run_id)["history"] if moment["state"] in FINAL]


@pytest.mark.timeout(1800)
def test_everything_is_killed_and_every_run_has_one_outcome(rig, toolbox):
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(1 << 32)))
    print(f"CHAOS_SEED={seed}")
    dice = random.Random(seed)
    toolbox.vertical(capacity="hybrid", slots=2, warm={"min": 0, "max": 3, "drain": "5s"})
    toolbox.add("work", f"sleep 0.2; {REPORT}")
    drover = Drover(rig, toolbox, SETTINGS).start()
    scaler = None
    try:
        drover.wait_workflow("work")
        wait.until("the worker group", lambda: count(rig.nomad, drover.namespace) is not None)
        tune(rig.nomad, drover.namespace, stabilization_down="2s", foreign_hold="5s", evaluation_interval="1s")
        scaler = Autoscaler(drover)
        scaler.start()
        submitter = Submitter(drover, drover.upload({"a.txt": "planted\n"}))
        submitter.start()
        killed = {"dispatcher": 0, "autoscaler": 0, "worker": 0}
        end = time.monotonic() + DURATION_S
        # A slow machine comes to fewer kills in that time: it goes on until there were enough of each to tell something.
        while time.monotonic() < end or min(killed.values()) < LEAST_KILLED:
            # The moment of a kill is what is random here: nothing is waited for by it.
            submitter.over.wait(dice.uniform(0.5, 4.0))
            who = dice.choice(("dispatcher", "autoscaler", "worker", "worker"))
            if who == "worker":
                killed[who] += kill_one_worker(drover, dice)
                continue
            victim = drover if who == "dispatcher" else scaler
            victim.kill9()
            killed[who] += 1
            submitter.over.wait(dice.uniform(0.0, 2.0))
            victim.restart()
        submitter.over.set()
        submitter.join(120)
        assert not submitter.is_alive()
        judge(drover, submitter, killed)
    finally:
        if scaler is not None and scaler.alive():
            scaler.stop()
        rig.heal()
        drover.close()


def judge(drover, submitter, killed):
    print(f"killed {killed}, {len(submitter.runs)} runs acknowledged, {submitter.refused} calls refused")
    assert len(set(submitter.runs.values())) == len(submitter.runs) > 50
    for key, run_id in submitter.runs.items():
        run = drover.wait_run(run_id, timeout_s=600)
        assert run["state"] == "completed", f"{key}: {run}"
        assert outcomes(drover, run_id) == ["completed"], f"{key}: {run}"
        assert run["findings"]["total"] == 1
    known, token = [], {}
    while token is not None:
        page = drover.get("/v1/runs", limit=1000, **token)
        known += [run["id"] for run in page["runs"]]
        token = {"next_token": page["next_token"]} if "next_token" in page else None
    # At most one more than was acknowledged: the submission under way when the test ended.
    assert set(submitter.runs.values()) <= set(known) and len(known) <= len(submitter.runs) + 1
    assert len(known) == len(set(known))
    last = drover.findings(next(iter(submitter.runs.values())))
    assert last["runs"][0]["results"]
