"""Submissions and what 20,000 of them cost: submit_*, children_max_20k, mem_dispatcher_20k_mb, restart_20k_ms.

Two dispatchers stand side by side, both with a window full of one-shots that hold their workers, so that nothing but
submissions happens: one with a short queue, one with 20,000 queued. Rounds go to them and to the peer in turn. The peer
of a durable submission is what Drover's queue stands in place of: dispatching into Nomad, whose server makes the
job durable in its Raft log; its job fits on no node, so that nothing is started for it.
"""

import statistics
import time

from .instruments import Sampler, settled_memory_mb
from .rows import noise, percentile
from .world import WINDOW, submission

UNPLACEABLE = """
job "bench-submit" {
  type        = "batch"
  datacenters = ["*"]
  parameterized {
    payload = "forbidden"
  }
  constraint {
    attribute = "${node.unique.name}"
    value     = "no such node"
  }
  group "run" {
    task "stamp" {
      driver = "raw_exec"
      config {
        command = "/bin/true"
      }
    }
  }
}
"""

FILL_AT_ONCE = 2000


class Side:
    """One of those that take turns: the loads it was given."""

    def __init__(self):
        self.loads = []

    def add(self, load):
        self.loads.append(load)

    @property
    def latencies_ms(self):
        return [ms for load in self.loads for ms in load.latencies_ms]

    def p99s(self):
        return [percentile(load.latencies_ms, 99) for load in self.loads]

    def p50s(self):
        return [percentile(load.latencies_ms, 50) for load in self.loads]

    def rates(self):
        return [load.per_s for load in self.loads]


def fill(world, drover, target):
    """Queue so many runs; live children of Nomad are counted all the while."""
    with Sampler(lambda: world.live_children(drover.namespace), 0.1) as children:
        for first in range(0, world.sizes.queued, FILL_AT_ONCE):
            count = min(FILL_AT_ONCE, world.sizes.queued - first)
            world.tools.load(drover.address, "POST", "/v1/runs", submission(target, "fill"), count, first=first)
    return children.max


def rounds(world, short, short_target, full, full_target):
    """Loads in turn; (short queue, full queue, Nomad), and the most children seen of the full one."""
    sides = (Side(), Side(), Side())
    world.rig.nomad.run_hcl(UNPLACEABLE)
    requests = world.sizes.round_requests
    with Sampler(lambda: world.live_children(full.namespace), 0.1) as children:
        for i in range(world.sizes.rounds):
            for side, drover, target in ((sides[0], short, short_target), (sides[1], full, full_target)):
                body = submission(target, "round")
                side.add(world.tools.load(drover.address, "POST", "/v1/runs", body, requests, first=i * requests))
            path = "/v1/job/bench-submit/dispatch"
            sides[2].add(world.tools.load(world.rig.nomad.address, "POST", path, "{}", world.sizes.peer_requests))
    return sides, children.max


def put_submissions(rows, sides, sizes, children_max):
    short, full, nomad = sides
    n = f"{sizes.rounds} rounds of {sizes.round_requests}, 16 kept connections"
    peer = f"peer: bare dispatches into Nomad, {sizes.peer_requests} a round, alternating"
    for name, ours, peers in (
        ("submit_per_s", short.rates(), nomad.rates()),
        ("submit_p50_ms", short.p50s(), nomad.p50s()),
        ("submit_p99_ms", short.p99s(), nomad.p99s()),
    ):
        how = f"median of {n}; window full, short queue; {peer}"
        rows.set(name, statistics.median(ours), how, peer=statistics.median(peers), noise=noise(ours))
    rows.set(
        "submit_20k_ratio",
        percentile(full.latencies_ms, 99),
        f"99th percentile over {n}, {sizes.queued} queued; peer: a dispatcher with a short queue, alternating",
        peer=percentile(short.latencies_ms, 99),
        noise=noise(full.p99s()),
        peer_min=min(short.p99s()),
        peer_max=max(short.p99s()),
        full_per_s=statistics.median(full.rates()),
    )
    rows.set(
        "children_max_20k",
        children_max,
        f"listed every 0.1 s while {sizes.queued} runs were queued and during the rounds; peer: the window",
        peer=WINDOW,
    )


def restart_ms(world, drover):
    """kill -9, then exec → the first health answer 200."""
    drover.kill9()
    asking = world.tools.until_200(drover.address, "/v1/agent/health", 60000)
    began_ns = time.monotonic_ns()
    drover.start(ready=False)
    out, problem = asking.communicate(timeout=90)
    assert asking.returncode == 0, problem + drover.process.exit_reason()
    return (int(out) - began_ns) / 1e6


def put_restart(world, rows, drover):
    times = [restart_ms(world, drover) for _ in range(world.sizes.restarts)]
    queued = sum(row["queued"] for row in drover.get("/v1/queue")["verticals"])
    assert queued >= world.sizes.queued, f"after the restart {queued} runs are queued, not {world.sizes.queued}"
    rows.set(
        "restart_20k_ms",
        statistics.median(times),
        f"median of {len(times)} restarts after kill -9, exec → first /v1/agent/health 200, {queued} runs queued",
        noise=noise(times),
    )


def measure(world, rows, short, toolbox):
    """short: an idle dispatcher."""
    full = world.add_dispatcher(toolbox)
    short_target, full_target = world.fill_window(short), world.fill_window(full)
    fill_max = fill(world, full, full_target)
    private, resident = settled_memory_mb(full.process.pid)
    rows.set(
        "mem_dispatcher_20k_mb",
        private,
        f"private pages of smaps_rollup once they stand still, {world.sizes.queued} queued, window full",
        resident_mb=resident,
    )
    sides, rounds_max = rounds(world, short, short_target, full, full_target)
    put_submissions(rows, sides, world.sizes, max(fill_max, rounds_max))
    put_restart(world, rows, full)
