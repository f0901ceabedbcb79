"""Worker groups that follow the queue, on a real Nomad: nothing that runs is ever taken away."""

import os
import signal

import pytest
from rig import wait
from rig.autoscale import Autoscaler, count, live, scaling_events, set_count
from rig.drover import Drover
from rig.toolbox import REPORT, VERTICAL

JOB = f"drover-workers-{VERTICAL}"
WARM = {"min": 0, "max": 4, "drain": "5s"}


@pytest.fixture(name="warm")
def warm_fixture(rig, toolbox):
    """A dispatcher whose vertical has warm workers only, from none to four with two slots each."""
    toolbox.vertical(capacity="warm", slots=2, warm=WARM)
    drover = Drover(rig, toolbox).start()
    wait.until("the worker group to be registered", lambda: count(rig.nomad, drover.namespace, JOB) is not None)
    yield drover
    rig.heal()
    drover.close()


@pytest.fixture(name="scalers")
def scalers_fixture():
    """Those of the test, stopped at its end."""
    started = []
    yield started
    for one in started:
        if one.alive():
            one.stop()


def start(scalers, drover, **settings):
    scaler = Autoscaler(drover, **settings)
    scalers.append(scaler)
    return scaler.start()


def submit(drover, workflow, target, number):
    return [drover.submit(workflow, target)["id"] for _ in range(number)]


def assert_each_ran_once(drover, runs):
    """Completed in the first attempt: none was killed, handed back or retried."""
    for run_id in runs:
        run = drover.wait_run(run_id, "completed", timeout_s=120)
        assert run["attempt"] == 1, run


def test_burst_from_nothing_to_some_and_back(warm, toolbox, rig, scalers):
    toolbox.add("short", f"sleep 1; {REPORT}")
    target = warm.upload({"a.txt": "x\n"})
    scaler = start(scalers, warm)
    assert count(rig.nomad, warm.namespace) == 0
    runs = submit(warm, "short", target, 40)
    wait.until("workers to be wanted", lambda: count(rig.nomad, warm.namespace) > 0, 20)
    assert_each_ran_once(warm, runs)
    wait.until("the group to be empty again", lambda: count(rig.nomad, warm.namespace) == 0, 120)
    events = scaling_events(rig.nomad, warm.namespace)
    assert any("ready" in event["Message"] and event["Meta"]["wanted"] > 0 for event in events)
    assert scaler.metric("drover_autoscale_other_stops_total") == 0
    assert scaler.decisions(result="scaled", action="up") and scaler.decisions(result="scaled", action="down")
