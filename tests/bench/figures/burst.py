"""burst_*: a burst of runs, from an empty group until it is empty again, under drover-autoscale and under Nomad's own autoscaler:
how long it takes, what it costs, and whom it hurts.

The same for both: the runs and their order, the bounds, the objective (no run waits for a worker that the bound allows), a look
every second at least, workers that go as soon as they are not needed. Most runs are short, one in ten takes three times as long as a
worker that is stopped lets its runs go on (DRAIN_TIMEOUT). The share of life makes all these times shorter alike; the clocks of
autoscalers and of Nomad are what they are.

Nomad's own autoscaler must choose. With the block that we ship it stops one worker at a time, and the next when that one's runs have
ended or are handed back: this is the peer. It may hurry, too: any number of workers at a time, every second. That costs the fewest
worker-seconds and the most runs, and stands beside the figures (not in the quick ones).
"""

import dataclasses
import datetime
import random
import time

from rig import wait
from rig.autoscale import Autoscaler, StockAutoscaler, count, set_scaling, tune

from .rows import noise
from .scale import SLOTS, STOCK_SECOND, dispatcher, stock_block
from .world import TARGET

GROUP = "drover-workers-story"
MOST = 6
LENGTHS_S = (3, 3, 3, 6, 6, 6, 9, 12, 18, 48)
GRACE_S = 15  # DRAIN_TIMEOUT's default
# What a run declares unless its workflow says more, as often as a worker has slots.
WORKER = {"cpu": f"{500 * SLOTS}m", "memory": f"{512 * SLOTS}MiB"}


@dataclasses.dataclass(frozen=True)
class Plan:
    runs: int
    turns: int
    life: float  # this share of all lengths

    @property
    def lengths_s(self):
        return [seconds * self.life for seconds in LENGTHS_S]

    @property
    def grace(self):
        return f"{GRACE_S * self.life:.0f}s"

    def order(self, turn):
        """Which workflows, in the order in which they are submitted."""
        kinds = [i % len(LENGTHS_S) for i in range(self.runs)]
        random.Random(turn).shuffle(kinds)
        return kinds


PLAN, QUICK = Plan(runs=60, turns=2, life=1 / 3), Plan(runs=40, turns=1, life=2 / 15)


@dataclasses.dataclass(frozen=True)
class Burst:
    drained_s: float  # first submission → end of the last run
    spent_s: float    # of the workers' processes, from their start to their end as Nomad saw it
    killed: int       # runs that did not complete in their first attempt
    lost_s: float     # of attempts that came to nothing


@dataclasses.dataclass(frozen=True)
class Contestant:
    drover: object
    autoscaler: object
    prepare: object  # what sets its policy


# One burst ------------------------------------------------------------------------------------------------------------


def instant(text):
    """Seconds of a time as Nomad or Drover writes it: up to nine digits of fraction, or none."""
    head, _, fraction = text.rstrip("Z").partition(".")
    return datetime.datetime.fromisoformat(head + "+00:00").timestamp() + float(f"0.{fraction or 0}")


def worker_seconds(drover, known):
    """Of all workers that there were but those that are known; None while one of them has not ended."""
    total = 0.0
    for alloc in drover.rig.nomad.allocs(GROUP, drover.namespace):
        if alloc["ID"] in known:
            continue
        for task in (alloc["TaskStates"] or {}).values():
            if not task["FinishedAt"] or task["FinishedAt"].startswith("0001"):
                return None
            total += instant(task["FinishedAt"]) - instant(task["StartedAt"])
    return total


def disturbed(run):
    return run["state"] != "completed" or run["attempt"] > 1


def lost_seconds(run):
    """Of the attempts after which the run was back in the queue."""
    steps = run["history"]
    return sum(
        instant(after["at"]) - instant(before["at"])
        for before, after in zip(steps, steps[1:])
        if before["state"] == "running" and after["state"] == "queued"
    )


def burst(drover, kinds):
    target = drover.upload(TARGET)
    known = {alloc["ID"] for alloc in drover.rig.nomad.allocs(GROUP, drover.namespace)}
    began = time.time()
    ids = [drover.submit(f"work{kind}", target)["id"] for kind in kinds]
    runs = [drover.wait_run(each, timeout_s=300) for each in ids]
    wait.until("the group to be empty again", lambda: count(drover.rig.nomad, drover.namespace) == 0, 120)
    return Burst(
        drained_s=max(instant(run["finished_at"]) for run in runs) - began,
        spent_s=wait.until("the workers to end", lambda: worker_seconds(drover, known), 60),
        killed=sum(map(disturbed, runs)),
        lost_s=sum(map(lost_seconds, runs)),
    )


# Turn by turn ---------------------------------------------------------------------------------------------------------


def contestants(world, plan):
    """Ours, and Nomad's own as we ship it and in a hurry."""
    ours, peer = (
        dispatcher(world, f"burst-{name}", plan.lengths_s, {"DRAIN_TIMEOUT": plan.grace}, min=0, max=MOST, drain="1s", **WORKER)
        for name in ("ours", "peer")
    )
    stock = StockAutoscaler(peer, **STOCK_SECOND)

    def with_block(cooldown, step):
        block = stock_block(world, MOST, **{'"15s"': f'"{cooldown}"', "max_scale_down = 1 ": f"max_scale_down = {step} "})
        return lambda: set_scaling(world.rig.nomad, peer.namespace, block)

    policy = {"stabilization_down": "0s", "cooldown": "1s", "evaluation_interval": "1s"}
    found = {
        "ours": Contestant(
            ours, Autoscaler(ours, LOG_LEVEL="info", AUTOSCALE_DRAIN_PATIENCE="0s"), lambda: tune(world.rig.nomad, ours.namespace, **policy)
        ),
        "peer": Contestant(peer, stock, with_block(plan.grace, 1)),
        "hurried": Contestant(peer, stock, with_block("1s", MOST)),
    }
    return {name: one for name, one in found.items() if name != "hurried" or not world.quick}


def play(world, plan):
    """The bursts of each contestant, turn by turn; who was last is first in the next."""
    who = contestants(world, plan)
    results = {name: [] for name in who}
    names = list(who)
    for turn in range(plan.turns):
        for name in names:
            who[name].prepare()
            who[name].autoscaler.start()
            try:
                results[name].append(burst(who[name].drover, plan.order(turn)))
            finally:
                who[name].autoscaler.stop()
        names.reverse()
    return results


def measure(world, rows):
    plan = QUICK if world.quick else PLAN
    results = play(world, plan)
    how = (
        f"{plan.turns} × {plan.runs} runs of {min(plan.lengths_s):.1f} to {max(plan.lengths_s):.1f} s at once, {MOST} workers of {SLOTS} slots at most, "
        f"DRAIN_TIMEOUT {plan.grace}, turn by turn; peer: Nomad Autoscaler, interval 1 s, one worker a step, cooldown {plan.grace}; "
        f"hurried: the same, any step, cooldown 1 s"
    )
    totals = {
        what: {who: sum(getattr(one, what) for one in bursts) for who, bursts in results.items()}
        for what in ("drained_s", "spent_s", "killed", "lost_s")
    }

    def put(name, what, text, **beside):
        mine = [getattr(one, what) for one in results["ours"]]
        hurried = {"peer_hurried": totals[what]["hurried"]} if "hurried" in results else {}
        rows.set(name, totals[what]["ours"], text, peer=totals[what]["peer"], noise=noise(mine), **hurried, **beside)

    put("burst_drain_ratio", "drained_s", how)
    put("burst_worker_seconds_ratio", "spent_s", how)
    lost = {f"{who}_lost_s": seconds for who, seconds in totals["lost_s"].items()}
    put("burst_killed", "killed", f"runs not completed in their first attempt; {how}", **lost)
