"""queued_100k_ratio, mem_100k_mb: what submitting and leasing cost with 100,000 queued, beside the same with 100.

Two dispatchers with the window full of one-shots that hold their workers. drive_lease submits to one and the other in turn and
works off as many runs as it submits, so that the queues keep their lengths.

A 99th percentile is what the machine does beside, above all: it differs threefold from round to round. So rounds are short and many,
each pair of them (the one first, then the other) gives one ratio, and the figure is the median of these.
"""

import json
import statistics
import subprocess

from .instruments import Sampler, settled_memory_mb
from .queue import FILL_AT_ONCE
from .rows import noise
from .world import WINDOW, submission

SHORT = 100
SUBMITTERS, WORKERS, SLOTS = 4, 4, 2  # few slots: a lease's percentile needs many exchanges


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


def paired(values):
    """Ratios of what was measured one after the other."""
    return [deep / short for short, deep in zip(*values)]


def measure(world, rows, toolbox):
    short, deep = world.add_dispatcher(toolbox), world.add_dispatcher(toolbox, QUEUE_MAX="200000")
    targets = world.fill_window(short), world.fill_window(deep)
    fill(world, short, targets[0], SHORT)
    most = fill(world, deep, targets[1], world.sizes.queued_most)
    private, resident = settled_memory_mb(deep.process.pid)
    how = f"private pages of smaps_rollup once they stand still, {queued(deep)} queued, window full"
    rows.set("mem_100k_mb", private, how, resident_mb=resident)
    seen = {"submit_p99_ms": ([], []), "exchange_p99_ms": ([], [])}
    sides = list(enumerate((short, deep)))
    with Sampler(lambda: world.live_children(deep.namespace), 0.1) as children:
        for i in range(world.sizes.deep_rounds):
            for side, drover in sides if i % 2 == 0 else sides[::-1]:
                told = drive(world, drover, targets[side], f"deep-{i}")
                for name, values in seen.items():
                    values[side].append(told[name])
    left, most = queued(deep), max(most, children.max)
    assert left > 0.9 * world.sizes.queued_most, f"{left} runs are left of the long queue"
    assert most <= WINDOW, f"{most} live children, the window is {WINDOW}"
    ratios = {name: paired(values) for name, values in seen.items()}
    worst = max(ratios, key=lambda name: statistics.median(ratios[name]))
    quartiles = statistics.quantiles(ratios[worst], n=4)
    rows.set(
        "queued_100k_ratio",
        statistics.median(seen[worst][1]),
        f"the worse of submit and lease (here {worst.split('_')[0]}): 99th percentile, {left} queued; peer: a dispatcher with {SHORT} "
        f"queued, alternating; ratio: median of the ratios of {world.sizes.deep_rounds} pairs of rounds of {world.sizes.deep_runs} runs",
        peer=statistics.median(seen[worst][0]),
        ratio=statistics.median(ratios[worst]),
        noise=noise(seen[worst][1]),
        submit_ratio=statistics.median(ratios["submit_p99_ms"]),
        lease_ratio=statistics.median(ratios["exchange_p99_ms"]),
        ratio_first_quartile=quartiles[0],
        ratio_third_quartile=quartiles[2],
        children_max=most,
        window=WINDOW,
    )
    for drover in (short, deep):
        drover.stop()
