"""scale_reaction_p99_ms, burst_*: how fast worker groups follow the queue and what that costs, beside Nomad's own autoscaler
(evaluation every second) with the policy that we ship for it.

Reaction: runs are submitted at moments that have nothing to do with either clock, into a group whose workers are too
large to be placed, so that nothing but the count moves; from before the first submission to the time of Nomad's scaling event.

Burst: the same runs under each autoscaler, one after the other, from an empty group until it is empty again. Worker-seconds
are the count over time, as Nomad's scaling events tell it.
"""

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
    jumps = 4 if world.quick else 16
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


def worker_seconds(changes, end_ns):
    total, count_now, since = 0.0, 0, 0
    for at, number in [*changes, (end_ns, 0)]:
        total += count_now * (at - since) / 1e9
        count_now, since = number, at
    return total


def burst(drover, runs):
    """(seconds to drain, worker-seconds, runs that did not end in their first attempt, changes of the count)."""
    target = drover.upload(TARGET)
    known = len(scaled(drover))
    began = time.time()
    ids = [drover.submit(f"work{LENGTHS_S[i % len(LENGTHS_S)]}", target)["id"] for i in range(runs)]
    ended = [drover.wait_run(each, timeout_s=300) for each in ids]
    drained_s = time.time() - began
    wait.until("the group to be empty again", lambda: count(drover.rig.nomad, drover.namespace) == 0, 120)
    changes = scaled(drover)
    # Nomad keeps the last 20 events of a group.
    assert known == 0 and len(changes) < 20, f"{len(changes)} changes: not all of them are known any more"
    disturbed = [run for run in ended if run["state"] != "completed" or run["attempt"] > 1]
    return drained_s, worker_seconds(changes, changes[-1][0]), len(disturbed), len(changes)


def measure_burst(world, rows):
    runs = 24 if world.quick else 90
    results = {}
    for name in ("ours", "peer"):
        drover = dispatcher(world, f"burst-{name}", min=0, max=MOST, drain="10s")
        if name == "ours":
            tune(world.rig.nomad, drover.namespace, stabilization_down="3s", evaluation_interval="1s")
            scaler = Autoscaler(drover, LOG_LEVEL="info").start()
        else:
            set_scaling(world.rig.nomad, drover.namespace, stock_block(world, MOST, **{'"1m"': '"3s"', "max_scale_down = 1 ": f"max_scale_down = {MOST} "}))
            scaler = StockAutoscaler(drover, **STOCK_SECOND).start()
        try:
            results[name] = burst(drover, runs)
        finally:
            scaler.stop()
        drover.stop()
    ours, peer = results["ours"], results["peer"]
    how = f"{runs} runs of {min(LENGTHS_S)} to {max(LENGTHS_S)} s at once, {MOST} workers of {JUMP_RUNS} slots at most; peer: Nomad Autoscaler, 1 s interval, 3 s cooldown"
    beside = {"ours_changes": ours[3], "peer_changes": peer[3]}
    rows.set("burst_drain_ratio", ours[0], how, peer=peer[0], **beside)
    rows.set("burst_worker_seconds_ratio", ours[1], how, peer=peer[1], **beside)
    rows.set("burst_killed", ours[2], f"runs not completed in their first attempt; {how}", peer=peer[2])


def measure(world, rows):
    measure_reaction(world, rows)
    measure_burst(world, rows)
