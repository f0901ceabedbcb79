"""Drover's programs under test: a dispatcher, its workers, the command line, and a client of the API."""

import io
import json
import os
import secrets
import subprocess
import tarfile
import urllib.parse

from . import binaries, http, wait
from .process import environment
from .server import Server

FINAL = ("completed", "failed", "timed_out", "canceled")
RUN_S = 90.0


def pack(files):
    """A tar.gz with these files: {path: text or bytes}."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for path, content in sorted(files.items()):
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


class Drover(Server):
    """A dispatcher with buckets, a Nomad namespace and a data directory of its own.

    rig        with servers started: runs become dispatched jobs of Nomad. Without: embedded, with a directory store
               and the workers of add_worker()
    toolbox    a Toolbox, or the path of a toolbox folder (default: the repository's)
    settings   more environment, or another value of what is set here
    """

    def __init__(self, rig, toolbox=None, settings=None):
        self.unique = secrets.token_hex(3)
        super().__init__(rig, f"drover-{self.unique}")
        self.ports = {"http": rig.ports.take()}
        self.embedded = rig.nomad is None
        self.namespace = "default" if self.embedded else f"story-{self.unique}"
        self.data_folder = os.path.join(self.folder, "data")
        self.cache_folder = os.path.join(self.folder, "cache")
        self.buckets = {kind: f"{kind}-{self.unique}" for kind in ("targets", "results", "toolbox")}
        self.workers = []
        for folder in (self.data_folder, self.cache_folder):
            os.makedirs(folder)
        self._toolchains = getattr(toolbox, "toolchains", None) or os.environ.get("DROVER_TOOLCHAINS", "")
        self.settings = self._common_settings(getattr(toolbox, "folder", toolbox))
        self.settings |= self._embedded_settings() if self.embedded else self._cluster_settings()
        self.settings |= settings or {}
        if not self.embedded:
            rig.nomad.make_namespace(self.namespace)
            self._put_secrets()

    # Settings ----------------------------------------------------------------------------------------------------

    def _common_settings(self, toolbox):
        return {
            "DROVER_LISTEN": self.address,
            "DROVER_ADVERTISE": self.url,
            "DROVER_DATA_DIR": self.data_folder,
            "DROVER_TOOLBOX": toolbox or os.path.join(binaries.ROOT, "toolbox"),
            "DROVER_JOBS_DIR": os.path.join(binaries.ROOT, "nomad-jobs"),
            "LOG_LEVEL": "debug",
        }

    def _embedded_settings(self):
        store = os.path.join(self.folder, "store")
        os.makedirs(store, exist_ok=True)
        return {"STORE_DIR": store, "DROVER_NOMAD": "off"}

    def _cluster_settings(self):
        # raw_exec tasks see the host's files: a folder does what a host volume does under docker.
        path = os.path.join(self.folder, "worker.env")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"CACHE_DIR={self.cache_folder}\n")
            file.write(f"DROVER_TOOLBOX={self.settings['DROVER_TOOLBOX']}\n")
            if self._toolchains:
                file.write(f"DROVER_TOOLCHAINS={self._toolchains}\n")
        return {
            **self.rig.env(),
            **self.bucket_settings(),
            "NOMAD_NAMESPACE": self.namespace,
            "DROVER_DRIVER": "raw_exec",
            "WORKER_COMMAND": binaries.drover("drover-worker"),
            "WORKER_ENV_FILE": path,
        }

    def bucket_settings(self):
        """Where the objects of this dispatcher are, for its workers too."""
        return {
            "S3_BUCKET": self.buckets["targets"],
            "S3_RESULTS_BUCKET": self.buckets["results"],
            "S3_TOOLBOX_BUCKET": self.buckets["toolbox"],
        }

    def _put_secrets(self):
        """What the operator does by hand: each vertical's workers find their S3 keys in a Nomad variable."""
        names = ("S3_ACCESS_KEY", "S3_SECRET_KEY")
        for vertical in os.listdir(os.path.join(self.settings["DROVER_TOOLBOX"], "verticals")):
            for job in (f"drover-run-{vertical}", f"drover-run-{vertical}-large", f"drover-workers-{vertical}"):
                items = {name: self.settings[name] for name in names}
                self.rig.nomad.put_variable(f"nomad/jobs/{job}", items, self.namespace)

    # The process -------------------------------------------------------------------------------------------------

    def argv(self):
        return [binaries.drover("drover-dispatcher")]

    def env(self):
        return self.settings

    def is_ready(self):
        return self.call("GET", "/v1/agent/health").status == 200

    def add_worker(self, vertical, **settings):
        """Start a looping worker of this vertical beside the dispatcher (embedded use)."""
        worker = Worker(self, vertical, settings)
        self.workers.append(worker)
        return worker.start()

    def close(self):
        """Stop everything, and remove what this dispatcher made in Nomad and MinIO."""
        for worker in self.workers:
            worker.stop()
        self.stop()
        if not self.embedded:
            self.rig.nomad.clear_namespace(self.namespace)
            client = self.rig.minio.s3()
            for bucket in self.buckets.values():
                client.drop_bucket(bucket)

    # The command line --------------------------------------------------------------------------------------------

    def cli(self, *args, check=True, input=None, env=None, timeout_s=120):
        """Run drover against this dispatcher: a CompletedProcess with text output.

        check: True asserts exit 0, a number that exit code, False none.
        """
        done = subprocess.run(
            [binaries.drover("drover"), *map(str, args)],
            env=environment(self.rig, {"DROVER_ADDR": self.url, "HOME": self.folder, **(env or {})}),
            cwd=self.folder,
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        expected = 0 if check is True else check
        assert check is False or done.returncode == expected, (
            f"drover {' '.join(map(str, args))}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def cli_json(self, *args, **options):
        """The same with -json after the command; its output parsed."""
        done = self.cli(args[0], "-json", *args[1:], **options)
        try:
            return json.loads(done.stdout)
        except ValueError as error:
            raise AssertionError(f"drover {args}: not JSON: {done.stdout[:500]}{done.stderr}") from error

    # The API -----------------------------------------------------------------------------------------------------

    def upload(self, content, filename="target.tar.gz", **headers):
        """Store a target; content: bytes, or {path: text} that is packed. The target as the API shows it."""
        data = pack(content) if isinstance(content, dict) else content
        names = {"X-Drover-Filename": urllib.parse.quote(filename), **headers}
        return self.call("PUT", "/v1/targets", body=data, headers=names).expect(200, 201).json()["target"]

    def submit(self, workflow, target=None, kind="tree", **more):
        """Submit a run and return it. target: one from upload() (default: a small tree); more: params, priority, …

        The toolbox may have been changed just before: waits until the dispatcher has seen the workflow.
        """
        self.wait_workflow(workflow)
        target = target or self.upload({"a.txt": "planted\n"})
        body = {"workflow": workflow, "target": {"id": target["id"], "name": target["filename"], "kind": kind}, **more}
        return self.call("POST", "/v1/runs", json=body).expect(200, 201).json()["run"]

    def wait_workflow(self, name, **wanted):
        """Wait until the dispatcher has loaded this workflow, and its description has these values; the description."""

        def probe():
            shown = self.get(f"/v1/workflow/{name}")["workflow"]
            return shown if all(shown[key] == value for key, value in wanted.items()) else None

        def loaded():
            return self.call("GET", f"/v1/workflow/{name}").status == 200 and probe()

        return wait.until(f"workflow {name} to be loaded", loaded)

    def run(self, run_id):
        return self.get(f"/v1/run/{run_id}")["run"]

    def runs(self, **filters):
        return self.get("/v1/runs", **filters)["runs"]

    def cancel(self, run_id, **body):
        return self.call("POST", f"/v1/run/{run_id}/cancel", json=body).expect(200).json()["run"]

    def findings(self, run_id):
        """The SARIF of the accepted attempt."""
        return self.get(f"/v1/run/{run_id}/findings")

    def logs(self, run_id):
        return self.call("GET", f"/v1/run/{run_id}/logs").expect(200).text

    def artifact(self, run_id, name):
        return self.call("GET", f"/v1/run/{run_id}/artifact/{name}").expect(200).body

    def wait_run(self, run_id, *states, timeout_s=RUN_S):
        """Wait until the run is in one of these states (default: any final one); the run.

        A final state that is not asked for fails at once: it will not change any more. The dispatcher may be away
        meanwhile.
        """
        wanted = states or FINAL
        last = {}

        def probe():
            run = self.run(run_id)
            last["run"] = run
            return run if run["state"] in wanted else None

        def ended():
            run = last.get("run")
            if run and run["state"] in FINAL and run["state"] not in wanted:
                return json.dumps(run, indent=1)
            return ""

        return wait.until(f"run {run_id} to be {' or '.join(wanted)}", probe, timeout_s, ended)

    def child(self, run_id, timeout_s=wait.PATIENCE_S):
        """(job id, allocation id) in Nomad of a run's current attempt, once a worker has told them."""

        def probe():
            run = self.run(run_id)
            return (run["job_id"], run["alloc_id"]) if run["job_id"] and run["alloc_id"] else None

        return wait.until(f"run {run_id} to be on a worker", probe, timeout_s)

    def metric(self, name, **labels):
        """The sum of the samples of a metric that carry these labels; LookupError when there is none."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        text = self.call("GET", "/metrics").expect(200).text
        samples = [line for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name]
        values = [float(line.rsplit(" ", 1)[1]) for line in samples if all(label in line for label in wanted)]
        if not values:
            raise LookupError(f"no metric {name} {labels}")
        return sum(values)

    def events(self, run_id=None, index=0, timeout_s=30.0):
        """The server-sent events as dictionaries until the stream ends: of a run, up to its final one."""
        path = f"/v1/run/{run_id}/events" if run_id else "/v1/events"
        answer = self.call("GET", http.with_query(path, index=index), timeout_s=timeout_s).expect(200)
        lines = answer.text.splitlines()
        return [json.loads(line[5:]) for line in lines if line.startswith("data:")]


class Worker(Server):
    """A looping drover-worker without Nomad."""

    def __init__(self, drover, vertical, settings):
        super().__init__(drover.rig, f"worker-{drover.unique}-{len(drover.workers)}")
        self.drover = drover
        self.settings = {
            "DROVER_ADDR": drover.url,
            "WORKER_VERTICAL": vertical,
            "CACHE_DIR": drover.cache_folder,
            "LOG_LEVEL": "debug",
            **{name: drover.settings[name] for name in ("STORE_DIR", "DROVER_TOOLBOX") if name in drover.settings},
            **({"DROVER_TOOLCHAINS": drover._toolchains} if drover._toolchains else {}),
            **settings,
        }

    def argv(self):
        return [binaries.drover("drover-worker")]

    def env(self):
        return self.settings

    def is_ready(self):
        """Registered: the dispatcher lists it."""
        workers = self.drover.get("/v1/workers")["workers"]
        return any(worker["vertical"] == self.settings["WORKER_VERTICAL"] for worker in workers)
