"""Warm workers: warm_start_*, real_runs_ratio, leases_per_s.

A group of one worker in Nomad, scaled by hand. The peer of a start and of whole runs is what Nomad does for the same program without
Drover: a bare dispatch (dispatch.BARE), one after the other for starts, all at once for the rate. Leases are driven by a
program (drive_lease.c) that does the part of submitters and of workers, so that only the dispatcher and its ledger work.
"""

import json
import statistics
import subprocess
import time

from rig import wait

from .dispatch import BARE, bare_ms, run_ms
from .rows import noise, percentile
from .world import TARGET, submission

GROUP = "drover-workers-story"
SLOTS = 8
# More than its slots need: what is measured is not a queue for declared memory.
WORKER = {"max": 2, "cpu": "16000m", "memory": "16GiB"}
SUBMITTERS, WORKERS, WORKER_SLOTS = 16, 8, 32


def warm_dispatcher(world):
    """A dispatcher with one warm worker, registered and idle, and a target that it has in its cache."""
    toolbox = world.toolbox("toolbox-warm")
    toolbox.vertical(capacity="warm", slots=SLOTS, warm=WORKER)
    drover = world.add_dispatcher(toolbox)
    nomad = world.rig.nomad
    wait.until("the worker group", lambda: nomad.job(GROUP, drover.namespace), 30)
    nomad.cli("job", "scale", "-detach", GROUP, "workers", "1", namespace=drover.namespace)
    wait.until("the warm worker", lambda: drover.get("/v1/workers")["workers"], 60)
    return drover, drover.upload(TARGET)


def measure_starts(world, rows, drover, target):
    """Starts one after the other, bare dispatches in between."""
    starts, bare = [], []
    count = 12 if world.quick else 200
    for i in range(world.sizes.warm_ups + count):
        took = run_ms(world, drover, target)
        if i < world.sizes.warm_ups:
            continue
        starts.append(took)
        if i % (count // 4 if world.quick else 10) == 0:
            bare.append(bare_ms(world))
            world.wait_calm("default")
    peer = statistics.median(bare)
    for name, percent in (("warm_start_p50_ms", 50), ("warm_start_p99_ms", 99)):
        rows.set(
            name,
            percentile(starts, percent),
            f"percentile of {len(starts)} runs of a cached target on an idle warm worker, one after the other; peer: median of "
            f"{len(bare)} bare dispatches of the same program ({min(bare):.0f}…{max(bare):.0f} ms)",
            peer=peer,
            noise=noise(starts),
        )


def bare_per_s(world, count):
    """Bare dispatches, as many at once as clients ask: from the first call until all tasks have ended."""
    nomad = world.rig.nomad
    began = time.monotonic()
    world.tools.load(nomad.address, "POST", "/v1/job/bench-bare/dispatch", "{}", count, connections=SUBMITTERS)

    def ended():
        children = nomad.children("bench-bare")
        return len(children) >= count and all(child["Status"] == "dead" for child in children)

    wait.until("the bare jobs to end", ended, 300)
    took = time.monotonic() - began
    for child in nomad.children("bench-bare"):
        nomad.stop_job(child["ID"], purge=True)
    return count / took


def runs_per_s(world, drover, target, count, prefix):
    began = time.monotonic()
    world.tools.load(drover.address, "POST", "/v1/runs", submission(target, prefix), count, connections=SUBMITTERS)

    def ended():
        lanes = drover.get("/v1/queue")["verticals"]
        return all(lane["queued"] + lane["running"] == 0 for lane in lanes)

    wait.until("all runs to end", ended, 300)
    return count / (time.monotonic() - began)


def measure_runs(world, rows, drover, target):
    rounds, runs, bare = (1, 40, 20) if world.quick else (3, 600, 60)
    ours, peers = [], []
    for i in range(rounds):
        # Neither pays for what the other leaves to be cleaned up.
        world.wait_idle()
        peers.append(bare_per_s(world, bare))
        world.wait_idle()
        ours.append(runs_per_s(world, drover, target, runs, f"real-{i}"))
    failed = [run for run in drover.runs(limit=100) if run["state"] != "completed" or run["attempt"] != 1]
    assert not failed, f"not every run was completed at once: {failed[0]}"
    rows.set(
        "real_runs_ratio",
        statistics.median(ours),
        f"median of {rounds} rounds of {runs} runs on one warm worker with {SLOTS} slots, from the first submission until all have "
        f"ended: own process, sandboxed, results and manifest in MinIO; peer: {bare} bare dispatches of the same program at once",
        peer=statistics.median(peers),
        noise=noise(ours),
    )


def measure_leases(world, rows):
    """On a dispatcher of its own, without Nomad: whoever registers is a worker."""
    count, rounds = (2000, 1) if world.quick else (20000, 3)
    drover = world.add_dispatcher(world.toolbox("toolbox-leases"), DROVER_NOMAD="off", LOG_LEVEL="warn")
    target = drover.upload(TARGET)
    rates, exchanges, submits = [], [], []
    for i in range(rounds):
        argv = [world.driver("lease"), drover.address, "story", count, SUBMITTERS, WORKERS, WORKER_SLOTS]
        done = subprocess.run(
            [str(arg) for arg in argv], input=submission(target, f"lease-{i}"), capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"drive_lease: {done.stderr.strip()}"
        seen = json.loads(done.stdout)
        rates.append(count / (seen["wall_ns"] / 1e9))
        exchanges.append(seen["exchange_p99_ms"])
        submits.append(seen["submit_p99_ms"])
    rows.set(
        "leases_per_s",
        statistics.median(rates),
        f"median of {rounds} rounds of {count} runs: submitted over {SUBMITTERS} connections, one a request, leased and reported by "
        f"{WORKERS} workers with {WORKER_SLOTS} slots that execute nothing, in exchanges; until the last report is acknowledged",
        noise=noise(rates),
        exchange_p99_ms=statistics.median(exchanges),
        submit_p99_ms=statistics.median(submits),
    )
    drover.stop()


def measure(world, rows):
    measure_leases(world, rows)
    world.rig.nomad.run_hcl(BARE, driver="raw_exec", program=world.tools.stamp, image="")
    drover, target = warm_dispatcher(world)
    measure_starts(world, rows, drover, target)
    measure_runs(world, rows, drover, target)
    world.rig.nomad.stop_job("bench-bare", purge=True)
    drover.stop()
