"""python3 -m figures OUT.json INSTRUMENTS: measure everything and write the rows. BENCH_QUICK=1: small and fast.

Exit 0 when the file was written, also with figures that miss their aims or could not be measured and say why; a quick run,
which is there to show that everything measures, ends with 1 for the latter.
"""

import contextlib
import os
import subprocess
import sys
import time

from rig import binaries

from . import demo, dispatch, memory, queue, upload
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


def keys(*names):
    """(figure, variant) of all figures whose names begin with one of these."""
    return [figure.key for figure in FIGURES if figure.name.startswith(names)]


def measure(world, rows):
    toolbox = world.toolbox("toolbox-bench")
    drover = world.add_dispatcher(toolbox)
    with part(rows, "memory, idle", *keys("mem_dispatcher_idle", "mem_worker")):
        memory.measure_dispatcher(world, rows, drover)
        memory.measure_worker(world, rows, drover)
    with part(rows, "dispatch, raw_exec", ("dispatch_overhead_ms", "raw_exec")):
        dispatch.measure_raw_exec(world, rows, drover)
    with part(rows, "dispatch, docker", ("dispatch_overhead_ms", "docker")):
        dispatch.measure_docker(world, rows)
    with part(rows, "uploads", *keys("upload_")):
        upload.measure(world, rows, drover)
    with part(rows, "the queue", *keys("submit_", "children_", "mem_dispatcher_20k", "restart_")):
        queue.measure(world, rows, drover, toolbox)


def show(rows):
    for row in rows.document()["rows"]:
        name = row["figure"] + (f" ({row['variant']})" if row["variant"] else "")
        cells = [f"{row[cell]:.4g}" if row[cell] is not None else "-" for cell in ("ours", "peer", "ratio")]
        verdict = {True: "met", False: "MISSED", None: ""}[row["met"]]
        say(f"{name:36} {cells[0]:>10} {row['unit']:5} peer {cells[1]:>10}  ratio {cells[2]:>7}  {verdict}")


def main(out, instruments):
    quick = os.environ.get("BENCH_QUICK") == "1"
    rows = Rows(quick)
    with part(rows, "servers and dispatchers", *keys("dispatch", "submit", "children", "mem", "restart", "upload")):
        binaries.drover("drover-dispatcher")
        with World(instruments, quick) as world:
            measure(world, rows)
    # Last, on a quiet machine.
    with part(rows, "demo", *keys("demo_s")):
        demo.measure(rows, (QUICK if quick else Sizes()).demos)
    rows.write(out)
    show(rows)
    if quick and rows.missed:
        sys.exit("bench: not measured:\n" + "\n".join(rows.missed))


if __name__ == "__main__":
    main(*sys.argv[1:])
