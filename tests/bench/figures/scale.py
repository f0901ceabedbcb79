"""scale_reaction_p99_ms, burst_*: how fast worker groups follow the queue and what that costs, beside Nomad's own autoscaler
(evaluation every second) with the policy that we ship for it.

Reaction: runs are submitted at moments that have nothing to do with either clock, into a group whose workers are too
large to be placed, so that nothing but the count moves; from before the first submission to the time of Nomad's scaling event.

Burst: the same runs under each autoscaler, one after the other, from an empty group until it is empty again. Worker-seconds
are those of the workers' processes, from their start to their end as Nomad saw it; both may scale in every second.
"""

import datetime
import random
import time

from rig import wait
from rig.autoscale import Autoscaler, StockAutoscaler, count, scaling_events, set_scaling, stock_scaling, tune
from rig.toolbox import REPORT

from .rows import noise, percentile
from .world import TARGET

JUMP_RUNS = 5  # a worker's slots: each jump wants one worker more
MOST = 6
LENGTHS_S = (1, 2, 3, 4)
STOCK_SECOND = {'"5s"': '"1s"'}  # evaluation interval and cooldown_on_scale_up


def dispatcher(world, name, **warm):
    """A dispatcher with a toolbox of its own and warm workers only; its group is registered."""
    toolbox = world.toolbox(f"toolbox-{name}")
    toolbox.vertical(capacity="warm", slots=JUMP_RUNS, warm=warm)
    for seconds in LENGTHS_S:
        toolbox.add(f"work{seconds}", f"sleep {seconds}; {REPORT}")
    drover = world.add_dispatcher(toolbox)
    wait.until("the worker group to be registered", lambda: count(world.rig.nomad, drover.namespace) is not None, 60)
    drover.wait_workflow(f"work{LENGTHS_S[-1]}")
    return drover


def stock_block(world, most, **replace):
    return stock_scaling(world.rig.nomad, **{"max     = 20": f"max     = {most}", '"5s"': '"1s"', **replace})


def scaled(drover):
    """Changes of the count: (nanoseconds, count), oldest first."""
    events = [event for event in scaling_events(drover.rig.nomad, drover.namespace) if event["Count"] is not None]
    return sorted((event["Time"], event["Count"]) for event in events)


# Reaction ------------------------------------------------------------------------------------------------------------


def one_jump(drover, target):
    """Milliseconds from the submissions to the count that follows."""
    before = scaled(drover)
    last_ns = before[-1][0] if before else 0
    began_ns = time.time_ns()
    for _ in range(JUMP_RUNS):
        drover.submit("work1", target)
    fresh = wait.until("the count to follow", lambda: [at for at, _ in scaled(drover) if at > last_ns], 60)
    return (fresh[0] - began_ns) / 1e6


def reactions(drover, jumps):
    target = drover.upload(TARGET)
    drover.submit("work1", target)  # the first worker, so that all jumps begin with some
    wait.until("the first worker to be asked for", lambda: count(drover.rig.nomad, drover.namespace) > 0, 60)
    took = []
    for _ in range(jumps):
        time.sleep(random.uniform(1, 2))  # no phase of a clock is met more often than another
        took.append(one_jump(drover, target))
    return took


def measure_reaction(world, rows):
    jumps = 4 if world.quick else 12
    warm = {"max": 50, "memory": "100GiB", "drain": "1s"}
    ours, peer = dispatcher(world, "scale-ours", **warm), dispatcher(world, "scale-peer", **warm)
    block = world.rig.nomad.job("drover-workers-story", ours.namespace)["TaskGroups"][0]["Scaling"]["Policy"]["check"]
    block[0]["queue"][0]["strategy"][0]["drover"][0]["threshold"] = 0
    tune(world.rig.nomad, ours.namespace, check=block)
    set_scaling(world.rig.nomad, peer.namespace, stock_block(world, 50))
    scaler, stock = Autoscaler(ours, LOG_LEVEL="info").start(), StockAutoscaler(peer, **STOCK_SECOND).start()
    try:
        mine, others = reactions(ours, jumps), reactions(peer, jumps)
    finally:
        scaler.stop()
        stock.stop()
    rows.set(
        "scale_reaction_p99_ms",
        percentile(mine, 99),
        f"submission of {JUMP_RUNS} runs → Nomad's scaling event, {jumps} jumps each; peer: Nomad Autoscaler, 1 s interval",
        peer=percentile(others, 99),
        noise=noise(mine),
        ours_p50=percentile(mine, 50),
        peer_p50=percentile(others, 50),
    )


# Burst ---------------------------------------------------------------------------------------------------------------


def instant(text):
    """Seconds of a time as Nomad writes it: nine digits of fraction, or none."""
    head, _, fraction = text.rstrip("Z").partition(".")
    return datetime.datetime.fromisoformat(head + "+00:00").timestamp() + float(f"0.{fraction or 0}")


def worker_seconds(drover, known):
    """Of all workers that there were but those that are known; None while one of them has not ended."""
    total = 0.0
    for alloc in drover.rig.nomad.allocs("drover-workers-story", drover.namespace):
        if alloc["ID"] in known:
            continue
        for task in (alloc["TaskStates"] or {}).values():
            if not task["FinishedAt"] or task["FinishedAt"].startswith("0001"):
                return None
            total += instant(task["FinishedAt"]) - instant(task["StartedAt"])
    return total


def burst(drover, runs):
    """(seconds to drain, worker-seconds, runs that did not end in their first attempt, changes of the count)."""
    target = drover.upload(TARGET)
    known = {alloc["ID"] for alloc in drover.rig.nomad.allocs("drover-workers-story", drover.namespace)}
    changes = len(scaled(drover))
    began = time.time()
    ids = [drover.submit(f"work{LENGTHS_S[i % len(LENGTHS_S)]}", target)["id"] for i in range(runs)]
    ended = [drover.wait_run(each, timeout_s=300) for each in ids]
    drained_s = time.time() - began
    wait.until("the group to be empty again", lambda: count(drover.rig.nomad, drover.namespace) == 0, 120)
    spent_s = wait.until("the workers to end", lambda: worker_seconds(drover, known), 60)
    disturbed = [run for run in ended if run["state"] != "completed" or run["attempt"] > 1]
    return drained_s, spent_s, len(disturbed), len(scaled(drover)) - changes


def contestants(world):
    """A dispatcher and an autoscaler of each kind, with the same bounds; both may scale in every second."""
    ours, peer = (dispatcher(world, f"burst-{name}", min=0, max=MOST, drain="10s") for name in ("ours", "peer"))
    tune(world.rig.nomad, ours.namespace, stabilization_down="0s", cooldown="1s", evaluation_interval="1s")
    yield ours, Autoscaler(ours, LOG_LEVEL="info", AUTOSCALE_DRAIN_PATIENCE="0s")
    shrink = {'"1m"': '"1s"', "max_scale_down = 1 ": f"max_scale_down = {MOST} "}
    set_scaling(world.rig.nomad, peer.namespace, stock_block(world, MOST, **shrink))
    yield peer, StockAutoscaler(peer, **STOCK_SECOND)


def measure_burst(world, rows):
    runs, turns = (24, 1) if world.quick else (90, 2)
    (ours, scaler), (peer, stock) = contestants(world)
    mine, others = [], []
    for _ in range(turns):
        for drover, autoscaler, results in ((ours, scaler, mine), (peer, stock, others)):
            autoscaler.start()
            try:
                results.append(burst(drover, runs))
            finally:
                autoscaler.stop()
    how = (
        f"{turns} × {runs} runs of {min(LENGTHS_S)} to {max(LENGTHS_S)} s at once, {MOST} workers of {JUMP_RUNS} slots at most, turn by turn; "
        "peer: Nomad Autoscaler, interval and cooldown 1 s"
    )
    totals = [[sum(result[i] for result in results) for i in range(4)] for results in (mine, others)]
    beside = {"ours_changes": totals[0][3], "peer_changes": totals[1][3]}
    rows.set("burst_drain_ratio", totals[0][0], how, peer=totals[1][0], noise=noise([one[0] for one in mine]), **beside)
    rows.set("burst_worker_seconds_ratio", totals[0][1], how, peer=totals[1][1], noise=noise([one[1] for one in mine]), **beside)
    rows.set("burst_killed", totals[0][2], f"runs not completed in their first attempt; {how}", peer=totals[1][2])


def measure(world, rows):
    measure_reaction(world, rows)
    measure_burst(world, rows)
