"""Nomad's own autoscaler with what we ship for it: it asks the dispatcher as if that were a Prometheus."""

import pytest
from rig import wait
from rig.autoscale import Autoscaler, StockAutoscaler, count, set_count, set_scaling, stock_scaling
from rig.drover import Drover
from rig.toolbox import REPORT
from stories.steps import HOLD, reached


@pytest.fixture(name="warm")
def warm_fixture(rig, toolbox):
    toolbox.vertical(capacity="warm", slots=2, warm={"min": 0, "max": 4})
    toolbox.add("short", f"sleep 0.3; {REPORT}")
    drover = Drover(rig, toolbox).start()
    wait.until("the worker group to be registered", lambda: count(rig.nomad, drover.namespace) is not None)
    yield drover
    rig.heal()
    drover.close()


def query(drover, text, range_=False):
    name = "query_range" if range_ else "query"
    return drover.call("GET", f"/api/v1/{name}?query={text}")


def test_prometheus_queries(warm):
    answer = query(warm, "drover_scale_workers_needed%7Bvertical=%22story%22%7D").expect(200).json()
    assert answer["status"] == "success" and answer["data"]["resultType"] == "vector"
    (sample,) = answer["data"]["result"]
    assert sample["metric"] == {"__name__": "drover_scale_workers_needed", "vertical": "story"}
    assert sample["value"][1] == "0"
    answer = query(warm, "drover_scale_ready", range_=True).expect(200).json()
    assert answer["data"]["resultType"] == "matrix" and answer["data"]["result"][0]["values"][0][1] == "0"
    assert query(warm, "drover_scale_ready%7Bvertical=%22other%22%7D").expect(200).json()["data"]["result"] == []
    for bad in ("", "up", "sum(drover_scale_ready)", "drover_scale_ready%7Bvertical=%22x", "drover_scale_ready%7Bjob=%22x%22%7D"):
        refused = query(warm, bad).expect(400).json()
        assert refused["status"] == "error" and refused["errorType"] == "bad_data"
    assert warm.metric("drover_scale_ready", vertical="story") == 0


def test_workers_needed_for_runs_that_fill_a_worker_before_its_slots_do(warm, rig, toolbox):
    """Workers have cpu for one of these, though they have two slots."""
    toolbox.add("wide", HOLD + REPORT, resources={"cpu": "1000m"})
    target = warm.upload({"a.txt": "x\n"})
    first, *_ = [warm.submit("wide", target)["id"] for _ in range(3)]
    assert warm.metric("drover_scale_workers_needed", vertical="story") == 1  # two, as far as anybody can tell
    set_count(rig.nomad, warm.namespace, 1)
    reached(warm, first)
    wait.until("three to be needed", lambda: warm.metric("drover_scale_workers_needed", vertical="story") == 3)


def test_it_scales_from_nothing_and_back_and_ours_leaves_it_alone(warm, rig):
    block = stock_scaling(rig.nomad, **{'"15s"': '"2s"', '"5s"': '"1s"', "max     = 20": "max     = 4"})
    set_scaling(rig.nomad, warm.namespace, block)
    ours = Autoscaler(warm).start()
    stock = StockAutoscaler(warm, **{'"5s"': '"1s"'}).start()
    try:
        target = warm.upload({"a.txt": "x\n"})
        runs = [warm.submit("short", target)["id"] for _ in range(40)]
        wait.until("workers to be asked for", lambda: count(rig.nomad, warm.namespace) > 0, 30, stock.process.exit_reason)
        for run_id in runs:
            warm.wait_run(run_id, "completed", timeout_s=120)
        wait.until("the group to be empty again", lambda: count(rig.nomad, warm.namespace) == 0, 60)
        wait.until("ours to have looked at it", ours.group)
        assert ours.group()["result"] == "ignored"
    finally:
        stock.stop()
        ours.stop()
