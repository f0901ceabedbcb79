"""queued_100k_ratio, mem_100k_mb: what submitting and leasing cost with 100,000 queued, beside the same with 100.

Two dispatchers with the window full of one-shots that hold their workers. drive_lease submits to one and the other in turn and
works off as many runs as it submits, so that the queues keep their lengths.
"""

import json
import statistics
import subprocess

from .instruments import Sampler, settled_memory_mb
from .queue import FILL_AT_ONCE
from .rows import noise
from .world import WINDOW, submission

SHORT = 100
SUBMITTERS, WORKERS, SLOTS = 4, 2, 8


def fill(world, drover, target, number):
    """Queue so many runs; the most live children that Nomad had meanwhile."""
    with Sampler(lambda: world.live_children(drover.namespace), 0.1) as children:
        for first in range(0, number, FILL_AT_ONCE):
            count = min(FILL_AT_ONCE, number - first)
            world.tools.load(drover.address, "POST", "/v1/runs", submission(target, "deep"), count, first=first)
    return children.max


def queued(drover):
    return sum(row["queued"] for row in drover.get("/v1/queue")["verticals"])


def drive(world, drover, target, prefix):
    argv = [world.driver("lease"), drover.address, "story", world.sizes.deep_runs, SUBMITTERS, WORKERS, SLOTS]
    done = subprocess.run(
        [str(arg) for arg in argv], input=submission(target, prefix), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"drive_lease: {done.stderr.strip()}"
    return json.loads(done.stdout)


def measure(world, rows, toolbox):
    short, deep = world.add_dispatcher(toolbox), world.add_dispatcher(toolbox, QUEUE_MAX="200000")
    targets = world.fill_window(short), world.fill_window(deep)
    fill(world, short, targets[0], SHORT)
    most = fill(world, deep, targets[1], world.sizes.queued_most)
    private, resident = settled_memory_mb(deep.process.pid)
    how = f"private pages of smaps_rollup once they stand still, {queued(deep)} queued, window full"
    rows.set("mem_100k_mb", private, how, resident_mb=resident)
    seen = {"submit_p99_ms": ([], []), "exchange_p99_ms": ([], [])}
    with Sampler(lambda: world.live_children(deep.namespace), 0.1) as children:
        for i in range(world.sizes.deep_rounds):
            for side, drover in enumerate((short, deep)):
                told = drive(world, drover, targets[side], f"deep-{i}")
                for name, values in seen.items():
                    values[side].append(told[name])
    left, most = queued(deep), max(most, children.max)
    assert left > 0.9 * world.sizes.queued_most, f"{left} runs are left of the long queue"
    assert most <= WINDOW, f"{most} live children, the window is {WINDOW}"
    ratios = {name: statistics.median(values[1]) / statistics.median(values[0]) for name, values in seen.items()}
    worst = max(ratios, key=ratios.get)
    rows.set(
        "queued_100k_ratio",
        statistics.median(seen[worst][1]),
        f"the worse of submit and lease (here {worst.split('_')[0]}): 99th percentile, median of {world.sizes.deep_rounds} rounds of "
        f"{world.sizes.deep_runs} runs, {left} queued; peer: a dispatcher with {SHORT} queued, alternating",
        peer=statistics.median(seen[worst][0]),
        noise=noise(seen[worst][1]),
        submit_ratio=ratios["submit_p99_ms"],
        lease_ratio=ratios["exchange_p99_ms"],
        children_max=most,
        window=WINDOW,
    )
    for drover in (short, deep):
        drover.stop()
