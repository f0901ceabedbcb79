"""One face for both modes: how a story gets at the worker of a run, and what must not be seen by a step."""

import os
import signal

from rig import wait


class Embedded:
    """A dispatcher with looping workers beside it."""

    has_classes = False  # larger workers for runs that ran out of memory

    def __init__(self, drover):
        self.drover = drover

    def _worker(self):
        return next(worker for worker in self.drover.workers if worker.alive())

    def signal_worker(self, _run_id, number):
        worker = self._worker()
        worker.process.signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            worker.process.wait(40)

    def kill_worker(self, run_id):
        self.signal_worker(run_id, signal.SIGKILL)

    def bring_workers(self):
        """A worker in the place of those that died."""
        for worker in self.drover.workers:
            if not worker.alive():
                worker.start(ready=False)

    def ports(self):
        return [self.drover.ports["http"]]

    def secrets(self):
        return []


class Cluster:
    """A dispatcher whose workers are tasks of Nomad."""

    has_classes = True

    def __init__(self, drover):
        self.drover = drover
        self.rig = drover.rig

    def worker_pid(self, run_id):
        _, alloc = self.drover.child(run_id)
        return wait.until(f"the worker of {run_id}", lambda: self.rig.client.task_pid(alloc))

    def signal_worker(self, run_id, number):
        os.kill(self.worker_pid(run_id), number)

    def kill_worker(self, run_id):
        self.signal_worker(run_id, signal.SIGKILL)

    def bring_workers(self):
        """Nomad is asked for another one by the dispatcher."""

    def ports(self):
        return [self.drover.ports["http"], self.rig.minio.ports["http"], self.rig.nomad.ports["http"], self.rig.consul.ports["http"]]

    def secrets(self):
        return [self.rig.minio.secret_key]
