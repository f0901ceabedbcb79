"""python3 -m figures OUT.json INSTRUMENTS: measure everything and write the rows. BENCH_QUICK=1: small and fast.
BENCH_ONLY=upload,queue: these parts alone.

Exit 0 when the file was written, also with figures that miss their aims or could not be measured and say why; a quick run,
which is there to show that everything measures, ends with 1 for the latter.
"""

import contextlib
import functools
import os
import subprocess
import sys
import time

from rig import binaries

from . import burst, cache, deep, demo, dispatch, extract, memory, peak, queue, scale, transfer, upload, warm, workspace
from .rows import FIGURES, Rows
from .world import QUICK, Sizes, World


def say(text):
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def part(rows, what, *names):
    """A part that fails leaves its figures unmeasured, with the reason, and the others go on. names: (figure, variant)."""
    began = time.monotonic()
    try:
        yield
    except (AssertionError, OSError, LookupError, ValueError, ArithmeticError, subprocess.SubprocessError) as problem:
        say(f"bench: {what}: {problem}")
        for name, variant in names:
            rows.lack(name, " ".join(str(problem).split())[:300] or type(problem).__name__, variant)
    say(f"bench: {what}: {time.monotonic() - began:.0f} s")


class Bench:
    """What the parts share: the servers, the rows, and the dispatcher that most of them use, started when first asked for."""

    def __init__(self, world, rows):
        self.world = world
        self.rows = rows

    @functools.cached_property
    def toolbox(self):
        return self.world.toolbox("toolbox-bench")

    @functools.cached_property
    def drover(self):
        return self.world.add_dispatcher(self.toolbox)


def idle_memory(bench):
    memory.measure_dispatcher(bench.world, bench.rows, bench.drover)
    memory.measure_worker(bench.world, bench.rows, bench.drover)


def scaling(bench):
    scale.measure(bench.world, bench.rows)
    burst.measure(bench.world, bench.rows)


# (part, beginnings of the names of its figures, variant or None for all, what measures it); in this order, because the idle
# dispatcher comes first and the one with a long queue last.
PARTS = (
    ("memory", ("mem_dispatcher_idle", "mem_worker_"), None, idle_memory),
    ("raw_exec", ("dispatch_",), "raw_exec", lambda b: dispatch.measure_raw_exec(b.world, b.rows, b.drover)),
    ("docker", ("dispatch_",), "docker", lambda b: dispatch.measure_docker(b.world, b.rows)),
    ("upload", ("upload_",), None, lambda b: upload.measure(b.world, b.rows, b.drover)),
    ("transfer", ("fetch_", "put_"), None, lambda b: transfer.measure(b.world, b.rows)),
    ("workspace", ("workspace_",), None, lambda b: workspace.measure(b.world, b.rows)),
    ("extract", ("extract_",), None, lambda b: extract.measure(b.world, b.rows)),
    ("cache", ("single_flight_", "evict_"), None, lambda b: cache.measure(b.world, b.rows)),
    ("peak", ("worker_mem_peak",), None, lambda b: peak.measure(b.world, b.rows, b.drover, b.toolbox)),
    ("warm", ("warm_", "real_", "leases_"), None, lambda b: warm.measure(b.world, b.rows)),
    ("scale", ("scale_", "burst_"), None, scaling),
    ("deep", ("queued_100k", "mem_100k"), None, lambda b: deep.measure(b.world, b.rows, b.toolbox)),
    (
        "queue", ("submit_", "children_", "mem_dispatcher_20k", "restart_"), None,
        lambda b: queue.measure(b.world, b.rows, b.drover, b.toolbox),
    ),
)


def keys(names, variant=None):
    """(figure, variant) of all figures whose names begin with one of these."""
    return [figure.key for figure in FIGURES if figure.name.startswith(names) and variant in (None, figure.variant)]


def measure(world, rows):
    bench = Bench(world, rows)
    for name, names, variant, run in PARTS:
        if not rows.only or name in rows.only:
            with part(rows, name, *keys(names, variant)):
                run(bench)


def show(rows):
    for row in rows.document()["rows"]:
        name = row["figure"] + (f" ({row['variant']})" if row["variant"] else "")
        cells = [f"{row[cell]:.4g}" if row[cell] is not None else "-" for cell in ("ours", "peer", "ratio")]
        verdict = {True: "met", False: "MISSED", None: ""}[row["met"]]
        say(f"{name:36} {cells[0]:>10} {row['unit']:5} peer {cells[1]:>10}  ratio {cells[2]:>7}  {verdict}")


def main(out, instruments):
    quick = os.environ.get("BENCH_QUICK") == "1"
    only = tuple(filter(None, os.environ.get("BENCH_ONLY", "").split(",")))
    unknown = sorted(set(only) - {name for name, *_ in PARTS} - {"demo"})
    if unknown:
        sys.exit(f"bench: unknown part {', '.join(unknown)} (known: {', '.join(name for name, *_ in PARTS)}, demo)")
    rows = Rows(quick, only)
    with part(rows, "servers and dispatchers", *(key for _, names, variant, _ in PARTS for key in keys(names, variant))):
        binaries.drover("drover-dispatcher")
        with World(instruments, quick) as world:
            measure(world, rows)
    # Last, on a quiet machine.
    if not only or "demo" in only:
        with part(rows, "demo", *keys(("demo_s",))):
            demo.measure(rows, (QUICK if quick else Sizes()).demos)
    rows.write(out)
    show(rows)
    if quick and rows.missed and not only:
        sys.exit("bench: not measured:\n" + "\n".join(rows.missed))


if __name__ == "__main__":
    main(*sys.argv[1:])
