"""mem_dispatcher_idle_mb, mem_worker_idle_mb: what is ours alone in memory (smaps_rollup), the servers' beside it."""

from .instruments import settled_memory_mb


def measure_dispatcher(world, rows, drover):
    """drover: just started, the toolbox loaded, Nomad, Consul and MinIO connected."""
    private, resident = settled_memory_mb(drover.process.pid)
    beside = {"resident_mb": resident}
    servers = {"nomad_server": world.rig.nomad, "nomad_client": world.rig.client, "consul": world.rig.consul}
    for name, server in {**servers, "minio": world.rig.minio}.items():
        # The agent alone: its tasks and plugins are not what is compared.
        beside[f"{name}_private_mb"], beside[f"{name}_resident_mb"] = settled_memory_mb(server.process.pid, still_s=0.0)
    rows.set(
        "mem_dispatcher_idle_mb",
        private,
        "private pages of smaps_rollup once they stand still, no run yet; peer: the Nomad server's, same moment",
        peer=beside["nomad_server_private_mb"],
        **beside,
    )


def measure_worker(world, rows, drover):
    worker = drover.add_worker("story", **world.rig.env())
    private, resident = settled_memory_mb(worker.process.pid)
    worker.stop()
    rows.set(
        "mem_worker_idle_mb",
        private,
        "private pages of smaps_rollup of a looping worker and its helpers, registered, without a run",
        resident_mb=resident,
    )
