"""demo_s: `make demo` as a user calls it, where packages and toolchains are present."""

import statistics
import subprocess
import time

from rig import binaries

from .rows import noise

LIMIT_S = 180


def measure(rows, times):
    if times == 0:
        rows.lack("demo_s", "a quick run leaves it out", excused=True)
        return
    if subprocess.run(["make", "-n", "demo"], cwd=binaries.ROOT, capture_output=True, check=False).returncode != 0:
        rows.lack("demo_s", "there is no `make demo` here")
        return
    took = []
    # The first one may install and build: it makes "present" true and does not count.
    for i in range(times + 1):
        began = time.monotonic()
        done = subprocess.run(
            ["make", "demo"], cwd=binaries.ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S,
            check=False,
        )
        if done.returncode != 0:
            last = (done.stdout + done.stderr).strip().splitlines()[-1:]
            rows.lack("demo_s", f"make demo ended with {done.returncode}: {' '.join(last)[:200]}")
            return
        if i > 0:
            took.append(time.monotonic() - began)
    rows.set("demo_s", statistics.median(took), f"median of {times} runs after one that does not count", noise=noise(took))
