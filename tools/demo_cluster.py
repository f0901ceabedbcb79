#!/usr/bin/env python3
"""The part of `make demo-cluster` that starts servers: uses the rig of the cluster tests, which takes all of it away again."""

import os
import signal
import subprocess
import sys
import time

from rig import Rig, binaries, wait
from rig.drover import Drover
from rig.process import environment

ROOT = binaries.ROOT
SAMPLE = "examples/sample-project"
EXPECTED = "examples/sample-project.expected.json"
VERTICALS = {"security_assessment": "python", "gitleaks_detection": "secrets"}
CHILD_S = 60.0


def say(text):
    print(f"\n=== {text}", flush=True)


def show(rig, argv, env):
    """Run a command as the reader would, its output as it comes; its exit code."""
    print(f"$ {os.path.basename(argv[0]).split('-1')[0]} {' '.join(argv[1:])}", flush=True)
    return subprocess.run(argv, cwd=ROOT, env=environment(rig, env), check=False).returncode


class Demo:
    def __init__(self, rig):
        self.rig = rig
        self.drover = Drover(rig)
        terminal = {name: os.environ[name] for name in ("TERM", "COLUMNS") if name in os.environ}
        self.drover_env = {"DROVER_ADDR": self.drover.url, **terminal}
        self.nomad_env = {"NOMAD_ADDR": rig.nomad.url, "NOMAD_NAMESPACE": self.drover.namespace, **terminal}

    def cli(self, *args):
        return show(self.rig, [binaries.drover("drover"), *args], self.drover_env)

    def nomad(self, *args):
        return show(self.rig, [binaries.server("nomad"), *args], self.nomad_env)

    def scan(self, workflow):
        """Run a workflow, show its dispatched job in Nomad while it runs, and check what it found."""
        say(f"{workflow}: drover run, as a job that Nomad dispatches")
        done = self.drover.cli("run", workflow, os.path.join(ROOT, SAMPLE), "-detach")
        run_id = done.stdout.strip()
        print(f"submitted {run_id}")
        job, alloc = self.drover.child(run_id, CHILD_S)
        say(f"what Nomad says of {run_id}")
        self.nomad("job", "status", f"drover-run-{VERTICALS[workflow]}")
        self.nomad("job", "status", job)
        self.nomad("alloc", "logs", alloc)
        self.nomad("alloc", "logs", "-stderr", alloc)
        say(f"what {workflow} found")
        if self.cli("status", "-watch", run_id) != 0 or self.cli("findings", run_id) != 0:
            return False
        sarif = os.path.join(self.drover.folder, f"{workflow}.sarif")
        self.drover.cli("findings", run_id, "-sarif", sarif)
        return subprocess.run(
            [sys.executable, "tests/toolbox/compare_findings.py", "--expected", EXPECTED, "--workflow", workflow, sarif],
            cwd=ROOT, check=False).returncode == 0

    def run(self):
        self.drover.start()
        try:
            self.wait_jobs()
            fine = all([self.scan(workflow) for workflow in VERTICALS])
            say("drover runs, drover queue")
            self.cli("runs")
            self.cli("queue")
            return fine
        finally:
            self.drover.close()

    def wait_jobs(self):
        """The dispatcher registers a parameterized job for each vertical."""
        wait.until("the parameterized jobs", lambda: all(
            self.rig.nomad.job(f"drover-run-{vertical}", self.drover.namespace) for vertical in VERTICALS.values()), 60)


def main():
    started = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    say("starting Consul, MinIO and Nomad on free ports in a private directory")
    with Rig() as rig:
        try:
            rig.start_servers(with_docker=False)
            print(f"Nomad {rig.nomad.url}, Consul {rig.consul.url}, MinIO {rig.minio.url}", flush=True)
            fine = Demo(rig).run()
        except BaseException:
            print(rig.log_tails())
            raise
        say("ending everything")
    print(f"done in {time.monotonic() - started:.0f} s", flush=True)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
