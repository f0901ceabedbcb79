"""Nomad agents with data directories: a server and, in processes of their own, clients.

Not both in one: the client of an agent that restarts asks its own server before that has its keys, is refused, and
asks again only after up to 30 s.
"""

import json
import os
import subprocess
import time
from http.client import HTTPConnection

from . import binaries, http, wait
from .process import environment
from .server import Server

# An idle machine of tests is small; what Nomad may place must not depend on it.
CPU_MHZ = 64000
MEMORY_MB = 65536

# Whether a client takes up work, on this very node.
PROBE_JOB = """
variable "node" {
  type = string
}
job "rig-probe" {
  type = "batch"
  constraint {
    attribute = "${node.unique.name}"
    value     = var.node
  }
  group "probe" {
    task "probe" {
      driver = "raw_exec"
      config {
        command = "/bin/true"
      }
    }
  }
}
"""
# A client that was refused asks its server again after at most half a minute.
PROBE_S = 90.0

DEAD_ALLOC = ("complete", "failed", "lost")


class Nomad(Server):
    """A Nomad agent. server: the agent whose client this one becomes; None: it is a server.

    Calls about jobs may go to either; those about a node (node, drain, eligible, task_pid, …) belong to a client.
    """

    shared = True

    def __init__(self, rig, name="nomad", server=None):
        super().__init__(rig, name)
        self.server = server
        self.ports = {port: rig.ports.take() for port in ("http", "rpc", "serf")}
        self.cache_folder = os.path.join(self.folder, "cache")
        self.ledger_folder = os.path.join(self.folder, "ledger")
        for folder in (self.cache_folder, self.ledger_folder) if server else ():
            os.makedirs(folder, exist_ok=True)

    # Configuration -----------------------------------------------------------------------------------------------

    def argv(self):
        path = os.path.join(self.folder, "agent.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self._config(), file, indent=1)
        return [binaries.server("nomad"), "agent", "-config", path]

    def env(self):
        # Tasks under raw_exec inherit this, and with it the marker by which they are found.
        return {"DOCKER_HOST": self.rig.docker.host} if self.rig.docker else {}

    def _config(self):
        config = {
            "name": self.name,
            "data_dir": os.path.join(self.folder, "d"),
            "bind_addr": "127.0.0.1",
            "advertise": {kind: "127.0.0.1" for kind in ("http", "rpc", "serf")},
            "ports": self.ports,
            "disable_update_check": True,
            "leave_on_interrupt": False,
            "leave_on_terminate": False,
            "log_level": "INFO",
            "consul": {
                "address": self.rig.consul.address,
                "server_auto_join": False,
                "client_auto_join": False,
            },
        }
        if self.server:
            config["client"] = self._client_config()
            config["plugin"] = self._plugin_config()
        else:
            config["server"] = {
                "enabled": True,
                "bootstrap_expect": 1,
                "raft_multiplier": 1,
                # A dead node is seen within some fifteen seconds. Not sooner: one that is only slow, or whose client was killed
                # and starts again, must not lose its tasks.
                "heartbeat_grace": "10s",
                "min_heartbeat_ttl": "3s",
                "event_buffer_size": 5000,
            }
        return config

    def _client_config(self):
        return {
            "enabled": True,
            "servers": [f"127.0.0.1:{self.server.ports['rpc']}"],
            "network_interface": "lo",
            "cpu_total_compute": CPU_MHZ,
            "memory_total_mb": MEMORY_MB,
            "cgroup_parent": self.claim().cgroup,
            # Answers of cloud metadata services are waited for otherwise.
            "options": {"fingerprint.denylist": "env_aws,env_gce,env_azure,env_digitalocean"},
            "host_volume": {
                "drover-cache": {"path": self.cache_folder, "read_only": False},
                "drover-ledger": {"path": self.ledger_folder, "read_only": False},
            },
        }

    def _plugin_config(self):
        plugins = {"raw_exec": {"config": {"enabled": True}}}
        if self.rig.docker:
            plugins["docker"] = {
                "config": {
                    "endpoint": self.rig.docker.host,
                    "volumes": {"enabled": True},
                    # The client would delete local images three minutes after their last use.
                    "gc": {"image": False},
                    "allow_caps": ["all"],
                }
            }
        return plugins

    # State -------------------------------------------------------------------------------------------------------

    def is_ready(self):
        if self.call("GET", "/v1/agent/health").status != 200 or not self.get("/v1/status/leader"):
            return False
        return self._node_is_ready() if self.server else self._can_encrypt()

    def _can_encrypt(self):
        """A leader has its keys a moment after its election."""
        item = {"Path": "rig/ready", "Items": {"ready": "yes"}}
        return self.call("PUT", "/v1/var/rig/ready", json=item).status == 200

    def _node_is_ready(self):
        node = self.node()
        drivers = node["Drivers"] or {}
        wanted = ["raw_exec"] + (["docker"] if self.rig.docker else [])
        return (
            node["Status"] == "ready"
            and node["SchedulingEligibility"] == "eligible"
            and all(drivers.get(driver, {}).get("Healthy") for driver in wanted)
        )

    def node(self):
        """This client's node as the server sees it; LookupError while it is not registered."""
        for entry in self.server.get("/v1/nodes"):
            if entry["Name"] == self.name:
                return self.server.get(f"/v1/node/{entry['ID']}")
        raise LookupError(f"no node {self.name}")

    def node_status(self):
        """ready, down, disconnected, initializing."""
        return self.node()["Status"]

    def prove(self):
        """Have the client run a task: being ready does not say yet that it asks its server for work."""
        self.server.run_hcl(PROBE_JOB, node=self.name)
        self.server.wait_alloc("rig-probe", "complete", timeout_s=PROBE_S)
        self.server.stop_job("rig-probe", purge=True)

    def cli_env(self, namespace=None):
        """What the nomad program needs to reach this agent."""
        return {"NOMAD_ADDR": self.url, "NOMAD_NAMESPACE": namespace or "default"}

    def cli(self, *args, check=True, namespace=None, input=None, env=None):
        """Run the nomad program against this agent: a CompletedProcess with text output."""
        env = environment(self.rig, {**self.cli_env(namespace), **(env or {})})
        done = subprocess.run(
            [binaries.server("nomad"), *args],
            env=env,
            input=input,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, f"nomad {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    # Jobs --------------------------------------------------------------------------------------------------------

    def run_hcl(self, hcl, namespace="default", **variables):
        """Register a job file; the job as Nomad knows it."""
        text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in variables.items())
        job = self.call(
            "POST", "/v1/jobs/parse", json={"JobHCL": hcl, "Variables": text, "Canonicalize": True}
        ).expect(200).json()
        job["Namespace"] = namespace
        self.call("POST", f"/v1/jobs?namespace={namespace}", json={"Job": job}).expect(200)
        return job

    def dispatch(self, parent, namespace="default", **meta):
        """The id of the new child."""
        answer = self.call("POST", f"/v1/job/{parent}/dispatch?namespace={namespace}", json={"Meta": meta})
        return answer.expect(200).json()["DispatchedJobID"]

    def jobs(self, prefix="", namespace="*"):
        return self.get("/v1/jobs", prefix=prefix or None, namespace=namespace)

    def children(self, parent, namespace="default"):
        return [job for job in self.jobs(f"{parent}/", namespace) if job["ParentID"] == parent]

    def job(self, job_id, namespace="default"):
        """The job, or None when there is none."""
        answer = self.call("GET", f"/v1/job/{_path(job_id)}?namespace={namespace}").expect(200, 404)
        return answer.json() if answer.status == 200 else None

    def allocs(self, job_id, namespace="default"):
        return self.get(f"/v1/job/{_path(job_id)}/allocations", namespace=namespace)

    def wait_alloc(self, job_id, *statuses, namespace="default", timeout_s=wait.PATIENCE_S):
        """The first allocation of the job whose ClientStatus is one of these."""

        def probe():
            return next((a for a in self.allocs(job_id, namespace) if a["ClientStatus"] in statuses), None)

        return wait.until(f"an allocation of {job_id} to be {' or '.join(statuses)}", probe, timeout_s)

    def alloc_pids(self, alloc_id):
        """Live processes in the control groups that Nomad made for the allocation."""
        found = set()
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/cgroup", encoding="utf-8") as file:
                        if alloc_id in file.read():
                            found.add(int(name))
                except OSError:
                    pass
        return sorted(found)

    def task_pid(self, alloc_id, program="drover-worker"):
        """The oldest process of the allocation that runs this program; LookupError when there is none."""
        for pid in self.alloc_pids(alloc_id):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    first = file.read().split(b"\0")[0].decode("utf-8", "replace")
            except OSError:
                continue
            if os.path.basename(first) == program:
                return pid
        raise LookupError(f"no {program} in allocation {alloc_id}")

    def logs(self, alloc_id, task, stream="stdout"):
        query = {"task": task, "type": stream, "plain": "true"}
        answer = self.call("GET", http.with_query(f"/v1/client/fs/logs/{alloc_id}", **query)).expect(200, 404)
        return answer.text if answer.status == 200 else ""

    def stop_job(self, job_id, purge=False, namespace="default"):
        path = f"/v1/job/{_path(job_id)}?namespace={namespace}&purge={'true' if purge else 'false'}"
        self.call("DELETE", path).expect(200, 404)

    def stop_alloc(self, alloc_id):
        self.call("POST", f"/v1/allocation/{alloc_id}/stop", json={}).expect(200)

    def drain(self, deadline_s=5):
        """Begin to drain this client's node; eligible() takes it back."""
        spec = {"DrainSpec": {"Deadline": int(deadline_s * 1e9), "IgnoreSystemJobs": True}}
        self.server.call("POST", f"/v1/node/{self.node()['ID']}/drain", json=spec).expect(200)

    def eligible(self):
        spec = {"DrainSpec": None, "MarkEligible": True}
        self.server.call("POST", f"/v1/node/{self.node()['ID']}/drain", json=spec).expect(200)

    def put_variable(self, path, items, namespace="default"):
        """Create or replace a Nomad variable: items is {name: text}."""
        body = {"Path": path, "Namespace": namespace, "Items": items}
        self.call("PUT", f"/v1/var/{path}?namespace={namespace}", json=body).expect(200)

    def evals(self, job_id, namespace="default"):
        return self.get(f"/v1/job/{_path(job_id)}/evaluations", namespace=namespace)

    def events(self, *topics, index=None, namespace="*", timeout_s=30.0):
        """Yield events (dictionaries) from the stream until time is up. index: the first one wanted (default: now)."""
        if index is None:
            index = int(self.call("GET", "/v1/jobs").headers["x-nomad-index"]) + 1
        query = "".join(f"&topic={topic}" for topic in topics)
        deadline = time.monotonic() + timeout_s
        connection = HTTPConnection("127.0.0.1", self.ports["http"], timeout=timeout_s)
        try:
            connection.request("GET", f"/v1/event/stream?index={index}&namespace={namespace}{query}")
            stream = connection.getresponse()
            while time.monotonic() < deadline:
                line = stream.readline()
                if not line:
                    return
                yield from json.loads(line).get("Events") or []
        finally:
            connection.close()

    # Namespaces --------------------------------------------------------------------------------------------------

    def make_namespace(self, name):
        self.call("POST", f"/v1/namespace/{name}", json={"Name": name}).expect(200)

    def clear_namespace(self, name, timeout_s=60.0):
        """Stop and purge every job in the namespace, delete its variables, then itself (but "default")."""

        def live():
            allocs = self.get("/v1/allocations", namespace=name)
            return [alloc for alloc in allocs if alloc["ClientStatus"] not in DEAD_ALLOC]

        for job in self.jobs(namespace=name):
            self.stop_job(job["ID"], namespace=name)
        wait.until(f"allocations in {name} to end", lambda: not live(), timeout_s)
        for job in self.jobs(namespace=name):
            self.stop_job(job["ID"], purge=True, namespace=name)
        for variable in self.get("/v1/vars", namespace=name):
            # The lock of a program that was killed holds until its time to live is over.
            wait.until(
                f"variable {variable['Path']} to be gone",
                lambda path=variable["Path"]: self.call("DELETE", f"/v1/var/{path}?namespace={name}").status == 204,
                90,
            )
        if name != "default":
            wait.until(
                f"namespace {name} to go",
                lambda: self.call("DELETE", f"/v1/namespace/{name}").status in (200, 404),
                timeout_s,
            )


def _path(job_id):
    """Ids of dispatched children contain slashes, which the API wants as they are."""
    return job_id.replace(" ", "%20")
