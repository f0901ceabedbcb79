"""dispatch_overhead_ms: from the submission to the start of the tool, beyond what Nomad takes for a bare dispatch.

Pairs, one after the other: a bare dispatch of a parameterized job whose command is the stamp program, and a submission
to Drover whose step is the same program. Both clocks start where the stamp program sends the request over a connection
that stands, and stop where the stamp program's main begins.
"""

import statistics

from rig import wait

from .instruments import stamp_in
from .rows import noise
from .world import TARGET, make_writable

BARE = """
variable "driver" {
  type = string
}
variable "program" {
  type = string
}
variable "image" {
  type = string
}
job "bench-bare" {
  type        = "batch"
  datacenters = ["*"]
  parameterized {
    payload = "forbidden"
  }
  group "run" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    task "stamp" {
      driver = var.driver
      dynamic "config" {
        for_each = var.driver == "docker" ? [1] : []
        content {
          image        = var.image
          command      = var.program
          args         = ["to", "${NOMAD_ALLOC_DIR}/stamp"]
          network_mode = "host"
        }
      }
      dynamic "config" {
        for_each = var.driver == "raw_exec" ? [1] : []
        content {
          command = var.program
          args    = ["to", "${NOMAD_ALLOC_DIR}/stamp"]
        }
      }
      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}
"""


def bare_ms(world):
    """One bare dispatch: dispatch call → task starts."""
    nomad = world.rig.nomad
    sent_ns, answer = world.tools.post(nomad.address, "/v1/job/bench-bare/dispatch", {})
    child = answer["DispatchedJobID"]
    alloc = nomad.wait_alloc(child, "complete", "failed")
    assert alloc["ClientStatus"] == "complete", f"the bare job failed: {alloc['TaskStates']}"
    began_ns = stamp_in(world.rig.client.call("GET", f"/v1/client/fs/cat/{alloc['ID']}?path=alloc/stamp").expect(200).text)
    nomad.stop_job(child, purge=True)
    return (began_ns - sent_ns) / 1e6


def run_ms(world, drover, target):
    """One run: submission → tool starts."""
    body = {"workflow": "stamp", "target": {"id": target["id"], "name": target["filename"], "kind": "tree"}}
    sent_ns, answer = world.tools.post(drover.address, "/v1/runs", body)
    run = drover.wait_run(answer["run"]["id"], "completed")
    began_ns = wait.until("the stamp in the run's log", lambda: stamp_in(drover.logs(run["id"])), 20)
    return (began_ns - sent_ns) / 1e6


def pairs(world, drover, target, count):
    """[(bare, run)] in ms; which of the two is first changes with each pair."""
    measured = []
    for i in range(world.sizes.warm_ups + count):
        both = {}
        for which in ("bare", "run") if i % 2 else ("run", "bare"):
            # What the last one left, such as its purge, must not disturb the next.
            world.wait_calm("default", drover.namespace)
            both[which] = bare_ms(world) if which == "bare" else run_ms(world, drover, target)
        if i >= world.sizes.warm_ups:
            measured.append((both["bare"], both["run"]))
    return measured


def put_row(rows, driver, measured):
    bare = [pair[0] for pair in measured]
    run = [pair[1] for pair in measured]
    more = [pair[1] - pair[0] for pair in measured]
    peer = statistics.median(bare)
    rows.set(
        "dispatch_overhead_ms",
        statistics.median(more),
        f"median of {len(more)} pairs, alternating: one-shot run of a cached target minus bare dispatch of the same program; "
        f"peer: the bare dispatch ({min(bare):.0f}…{max(bare):.0f} ms), ratio: run to bare",
        variant=driver,
        peer=peer,
        ratio=statistics.median(run) / peer,
        noise=noise(more),
        run_median_ms=statistics.median(run),
        run_max_ms=max(run),
    )


def measure_raw_exec(world, rows, drover):
    target = drover.upload(TARGET)
    world.rig.nomad.run_hcl(BARE, driver="raw_exec", program=world.tools.stamp, image="")
    put_row(rows, "raw_exec", pairs(world, drover, target, world.sizes.pairs))
    world.rig.nomad.stop_job("bench-bare", purge=True)


def measure_docker(world, rows):
    """With a host volume for the cache, as an operator would run it."""
    if world.rig.docker is None:
        rows.lack("dispatch_overhead_ms", world.rig.no_docker, variant="docker", excused=True)
        return
    image = world.docker_image()
    make_writable(world.rig.client.cache_folder)
    drover = world.add_dispatcher(
        world.toolbox("toolbox-docker", driver="docker", image=image),
        DROVER_DRIVER="docker",
        CACHE_VOLUME="drover-cache",
        DOCKER_NETWORK="host",
        WORKER_ENV_FILE="",
    )
    target = drover.upload(TARGET)
    world.rig.nomad.run_hcl(BARE, driver="docker", program="/usr/local/bin/stamp", image=image)
    put_row(rows, "docker", pairs(world, drover, target, world.sizes.docker_pairs))
    world.rig.nomad.stop_job("bench-bare", purge=True)
    drover.stop()
