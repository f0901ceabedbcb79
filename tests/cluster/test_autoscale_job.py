"""The autoscaler as a job of Nomad with ACLs: its rights come from its workload identity and are no more than its policy's."""

import json
import os

import pytest
from conftest import QUICK
from rig import binaries, wait
from rig.autoscale import Autoscaler, count, tune
from rig.drover import Drover
from rig.toolbox import REPORT
from test_acl import policy

JOB = "drover-autoscale"
JOB_FILE = os.path.join(binaries.ROOT, "nomad-jobs", "autoscale.nomad.hcl")


@pytest.fixture(name="drover")
def drover_fixture(secure_rig, secure_toolbox):
    """A dispatcher with its own policy, and a vertical with warm workers only."""
    secure_toolbox.vertical(capacity="warm", slots=2, warm={"min": 0, "max": 2})
    secure_toolbox.add("short", REPORT)
    drover = Drover(secure_rig, secure_toolbox, QUICK)
    secure_rig.nomad.apply_policy(f"d-{drover.unique}", policy("dispatcher", drover.namespace))
    drover.settings["NOMAD_TOKEN"] = secure_rig.nomad.make_token(f"d-{drover.unique}")
    drover.start()
    wait.until("the worker group", lambda: count(secure_rig.nomad, drover.namespace) is not None, 60)
    yield drover
    secure_rig.heal()
    secure_rig.nomad.stop_job(JOB, namespace=drover.namespace)
    drover.close()


def test_two_as_a_nomad_job(drover, secure_rig):
    nomad = secure_rig.nomad
    nomad.apply_policy(f"a-{drover.unique}", policy("autoscale", drover.namespace), drover.namespace, JOB)
    variables = {
        "namespace": drover.namespace,
        "driver": "raw_exec",
        "command": binaries.drover("drover-autoscale"),
        "dispatcher": drover.url,
        "env": json.dumps({"LOG_LEVEL": "debug"}),
    }
    options = [f"-var={name}={value}" for name, value in variables.items()]
    nomad.cli("job", "run", "-detach", *options, JOB_FILE, namespace=drover.namespace)
    wait.until("both to pass their checks", lambda: len(secure_rig.consul.passing(JOB)) == 2, 60)
    tune(nomad, drover.namespace, stabilization_down="1s")
    run = drover.submit("short")
    done = drover.wait_run(run["id"], "completed", timeout_s=90)
    assert done["attempt"] == 1
    wait.until("the worker to go again", lambda: count(nomad, drover.namespace) == 0, 60)
    told = lambda: [nomad.logs(alloc["ID"], "autoscale", "stderr") for alloc in nomad.allocs(JOB, drover.namespace)]
    # Nomad shows what a task writes a moment later.
    wait.until("the log to tell who leads", lambda: any("this one acts now" in log for log in told()))
    logs = told()
    assert sum("this one acts now" in log for log in logs) == 1
    assert not any("Permission denied" in log for log in logs), logs


def test_missing_right_is_named(drover, secure_rig):
    rules = policy("autoscale", drover.namespace).replace(', "scale-job"', "")
    secure_rig.nomad.apply_policy(f"a-{drover.unique}", rules)
    token = secure_rig.nomad.make_token(f"a-{drover.unique}")
    scaler = Autoscaler(drover, NOMAD_TOKEN=token).start()
    try:
        run = drover.submit("short")
        told = scaler.wait_decision("the right to be named", result="failed")
        assert "scale-job" in told["note"] and drover.namespace in told["note"]
        secure_rig.nomad.apply_policy(f"a-{drover.unique}", policy("autoscale", drover.namespace))
        drover.wait_run(run["id"], "completed", timeout_s=90)
    finally:
        scaler.stop()
