"""scale_reaction_p99_ms: how fast worker groups follow the queue, beside Nomad's own autoscaler (evaluation every second) with the
policy that we ship for it. What a burst costs under each: burst.py.

Runs are submitted at moments that have nothing to do with either clock, into a group whose workers are too
large to be placed, so that nothing but the count moves; from before the first submission to the time of Nomad's scaling event.
"""

import random
import time

from rig import wait
from rig.autoscale import Autoscaler, StockAutoscaler, count, scaling_events, set_scaling, stock_scaling, tune
from rig.toolbox import REPORT

from .rows import noise, percentile
from .world import TARGET

SLOTS = 5  # of a worker: each jump wants one worker more
STOCK_SECOND = {'"5s"': '"1s"'}  # evaluation interval and cooldown_on_scale_up


def dispatcher(world, name, lengths_s, worker=None, **warm):
    """A dispatcher with a toolbox of its own and warm workers only; its group is registered. Workflow work<i> takes lengths_s[i].
    worker: settings of its workers."""
    toolbox = world.toolbox(f"toolbox-{name}")
    toolbox.vertical(capacity="warm", slots=SLOTS, warm=warm)
    for i, seconds in enumerate(lengths_s):
        toolbox.add(f"work{i}", f"sleep {seconds:g}; {REPORT}")
    drover = world.add_dispatcher(toolbox, worker)
    wait.until("the worker group to be registered", lambda: count(world.rig.nomad, drover.namespace) is not None, 60)
    drover.wait_workflow(f"work{len(lengths_s) - 1}")
    return drover


def stock_block(world, most, **replace):
    return stock_scaling(world.rig.nomad, **{"max     = 20": f"max     = {most}", '"5s"': '"1s"', **replace})


def scaled(drover):
    """Changes of the count: (nanoseconds, count), oldest first."""
    events = [event for event in scaling_events(drover.rig.nomad, drover.namespace) if event["Count"] is not None]
    return sorted((event["Time"], event["Count"]) for event in events)


def one_jump(drover, target):
    """Milliseconds from the submissions to the count that follows."""
    before = scaled(drover)
    last_ns = before[-1][0] if before else 0
    began_ns = time.time_ns()
    for _ in range(SLOTS):
        drover.submit("work0", target)
    fresh = wait.until("the count to follow", lambda: [at for at, _ in scaled(drover) if at > last_ns], 60)
    return (fresh[0] - began_ns) / 1e6


def reactions(drover, jumps):
    target = drover.upload(TARGET)
    drover.submit("work0", target)  # the first worker, so that all jumps begin with some
    wait.until("the first worker to be asked for", lambda: count(drover.rig.nomad, drover.namespace) > 0, 60)
    took = []
    for _ in range(jumps):
        time.sleep(random.uniform(0.5, 1.5))  # no phase of a clock is met more often than another
        took.append(one_jump(drover, target))
    return took


def measure(world, rows):
    jumps = 4 if world.quick else 12
    warm = {"max": 50, "memory": "100GiB", "drain": "1s"}
    ours, peer = (dispatcher(world, f"scale-{name}", [1], **warm) for name in ("ours", "peer"))
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
        f"submission of {SLOTS} runs → Nomad's scaling event, {jumps} jumps each; peer: Nomad Autoscaler, 1 s interval",
        peer=percentile(others, 99),
        noise=noise(mine),
        ours_p50=percentile(mine, 50),
        peer_p50=percentile(others, 50),
    )
