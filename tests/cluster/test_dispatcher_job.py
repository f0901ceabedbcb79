"""The dispatcher as a job of Nomad, what it finds through catalogues, and several Drovers beside each other."""

import json
import os
import re
import shutil
import signal
import subprocess

import pytest

from conftest import QUICK
from rig import Drover, binaries, wait
from rig.process import environment
from rig.toolbox import REPORT
from stories.runs import outcomes
from stories.steps import HOLD, go_on, reached
from test_acl import policy

JOB = "drover-dispatcher"
JOB_FILE = os.path.join(binaries.ROOT, "nomad-jobs", "dispatcher.nomad.hcl")
PARENT = "drover-run-story"


def init(drover):
    """The tokens of drover init, and the lines that it prints."""
    done = drover.cli("init", "-data-dir", drover.data_folder, "-toolbox", drover.settings["DROVER_TOOLBOX"])
    tokens = dict(re.findall(r"^ +(admin|analyst|worker) +(drover_[0-9a-f]+) ", done.stdout, re.M))
    return tokens, done.stdout


def run_printed(rig, text, namespace, **more):
    """Do what the text says with `nomad`, as a shell does it; how many variables were put."""
    script = "\n".join(line for line in text.splitlines() if line.startswith("  nomad") or line.startswith("      "))
    bin_folder = os.path.dirname(binaries.server("nomad"))
    shim = os.path.join(rig.temp, "bin")
    os.makedirs(shim, exist_ok=True)
    if not os.path.exists(os.path.join(shim, "nomad")):
        os.symlink(binaries.server("nomad"), os.path.join(shim, "nomad"))
    env = environment(rig, {**rig.nomad.cli_env(namespace), **more})
    env["PATH"] = f"{shim}:{bin_folder}:{env['PATH']}"
    done = subprocess.run(["sh", "-eu", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, script + done.stdout + done.stderr
    return script.count("nomad var put")


class Job(Drover):
    """The dispatcher that nomad-jobs/dispatcher.nomad.hcl runs, with its ledger on the client's host volume."""

    def __init__(self, rig, toolbox, variables=None, catalogue="consul"):
        self.token = None
        super().__init__(rig, toolbox)
        self.data_folder = rig.client.ledger_folder
        shutil.rmtree(self.data_folder)
        os.mkdir(self.data_folder)
        share = os.path.join(self.folder, "share")
        os.mkdir(share)
        os.symlink(self.settings["DROVER_TOOLBOX"], os.path.join(share, "toolbox"))
        os.symlink(self.settings["DROVER_JOBS_DIR"], os.path.join(share, "nomad-jobs"))
        taken = ("S3_BUCKET", "S3_RESULTS_BUCKET", "S3_TOOLBOX_BUCKET", "DROVER_DRIVER", "WORKER_COMMAND", "WORKER_ENV_FILE")
        self.variables = {
            "namespace": self.namespace,
            "driver": "raw_exec",
            "command": binaries.drover("drover-dispatcher"),
            "port": str(self.ports["http"]),
            "data_dir": self.data_folder,
            "share_dir": share,
            "s3_endpoint": f"{catalogue}://minio",
            "consul_addr": rig.consul.url,
            "env": json.dumps({**QUICK, "LOG_LEVEL": "debug", **{name: self.settings[name] for name in taken}}),
            **(variables or {}),
        }
        keys = {"S3_ACCESS_KEY": rig.minio.access_key, "S3_SECRET_KEY": rig.minio.secret_key}
        rig.nomad.put_variable(f"nomad/jobs/{JOB}", keys, self.namespace)
        rig.nomad.apply_policy(f"d-{self.unique}", policy("dispatcher", self.namespace), self.namespace, JOB)
        tokens, printed = init(self)
        assert run_printed(rig, printed, self.namespace, **keys) == 4  # one-shots, large ones, the group, the autoscaler
        self.token = tokens["admin"]

    def start(self, ready=True):
        options = [f"-var={name}={value}" for name, value in self.variables.items()]
        self.rig.nomad.cli("job", "run", "-detach", *options, JOB_FILE, namespace=self.namespace)
        if ready:
            wait.until("the dispatcher to be ready", self.is_ready, 60, self.failure)
        return self

    def allocs(self):
        return self.rig.nomad.allocs(JOB, self.namespace)

    def failure(self):
        """Why it will not come up, or nothing."""
        failed = [alloc for alloc in self.allocs() if alloc["ClientStatus"] == "failed"]
        return json.dumps(failed[0]["TaskStates"], indent=1) + self.log() if failed else ""

    def log(self):
        return "\n".join(self.rig.nomad.logs(alloc["ID"], "dispatcher", "stderr") for alloc in self.allocs())

    def is_ready(self):
        return self.call("GET", "/v1/agent/health").status == 200 and self.get("/v1/agent/health")["status"] == "ok"

    def stop(self):
        self.rig.nomad.stop_job(JOB, namespace=self.namespace)

    def call(self, method, path, **options):
        headers = {"Authorization": f"Bearer {self.token}", **(options.pop("headers", None) or {})}
        return super().call(method, path, headers=headers, **options)

    def pid(self):
        return self.rig.client.task_pid(self.allocs()[0]["ID"], "drover-dispatcher")


@pytest.fixture(name="make_job")
def make_job_fixture(secure_rig, secure_toolbox):
    made = []

    def make(**options):
        made.append(Job(secure_rig, secure_toolbox, **options))
        return made[-1]

    yield make
    secure_rig.heal()
    for job in made:
        job.close()


# The dispatcher's own job ----------------------------------------------------------------------------------------


def test_nomad_runs_the_dispatcher_and_starts_it_again(make_job, secure_rig, secure_toolbox):
    """Secrets from a variable, rights by workload identity, workers that find it through Consul; then kill -9 of its task."""
    secure_toolbox.add("slow", HOLD + REPORT)
    drover = make_job().start()
    wait.until("its check to pass in Consul", lambda: secure_rig.consul.passing(JOB) == [drover.address])
    run = drover.submit("slow")
    reached(drover, run["id"])
    _, alloc = drover.child(run["id"])
    env = secure_rig.nomad.job(PARENT, drover.namespace)["TaskGroups"][0]["Tasks"][0]["Env"]
    assert env["DROVER_ADDR"] == f"consul://{JOB}" and "S3_SECRET_KEY" not in env and "DROVER_TOKEN" not in env
    victim = drover.pid()
    os.kill(victim, signal.SIGKILL)
    wait.until("another process in its place", lambda: drover.pid() != victim, 60)
    wait.until("the dispatcher to be ready", drover.is_ready, 60)
    wait.until("Nomad to count its start", lambda: drover.allocs()[0]["TaskStates"]["dispatcher"]["Restarts"] == 1)
    assert len(drover.allocs()) == 1
    assert drover.run(run["id"])["state"] == "running"
    go_on(drover, run["id"])
    after = drover.wait_run(run["id"], "completed")
    assert after["attempt"] == 1 and after["alloc_id"] == alloc
    reached(drover, drover.submit("slow")["id"])


def test_dispatcher_and_store_are_nomad_services(make_job, secure_rig, secure_toolbox):
    """nomad:// for both, by the rights of workload identities."""
    secure_toolbox.add("finds", REPORT)
    variables = {"service_provider": "nomad", "advertise": f"nomad://{JOB}", "consul_addr": ""}
    drover = make_job(variables=variables, catalogue="nomad")
    announce_minio(secure_rig, drover.namespace)
    drover.start()
    assert not secure_rig.consul.passing(JOB)
    run = drover.wait_run(drover.submit("finds")["id"], "completed")
    assert run["findings"]["error"] == 1


MINIO_SERVICE = """
variable "port" {
  type = number
}
job "minio" {
  group "minio" {
    network {
      port "s3" {
        static = var.port
      }
    }
    service {
      name     = "minio"
      provider = "nomad"
      port     = "s3"
    }
    task "stand-in" {
      driver = "raw_exec"
      config {
        command = "/bin/sleep"
        args    = ["86007"]
      }
    }
  }
}
"""


def announce_minio(rig, namespace):
    rig.nomad.run_hcl(MINIO_SERVICE, namespace, port=rig.minio.ports["http"])
    wait.until("minio to be a service", lambda: rig.nomad.get("/v1/service/minio", namespace=namespace))


def test_store_is_found_as_a_nomad_service_without_consul(rig, toolbox):
    """No Consul at all: the dispatcher asks its Nomad, the worker its task's own socket."""
    toolbox.add("finds", REPORT)
    drover = Drover(rig, toolbox, {**QUICK, "S3_ENDPOINT": "nomad://minio", "CONSUL_HTTP_ADDR": ""})
    try:
        announce_minio(rig, drover.namespace)
        drover.start()
        run = drover.wait_run(drover.submit("finds")["id"], "completed")
        assert run["findings"]["error"] == 1
        env = rig.nomad.job(PARENT, drover.namespace)["TaskGroups"][0]["Tasks"][0]["Env"]
        assert env["S3_ENDPOINT"] == "nomad://minio" and not {"NOMAD_ADDR", "CONSUL_HTTP_ADDR"} & set(env)
    finally:
        drover.close()


# drover init -----------------------------------------------------------------------------------------------------


def test_lines_of_init_work_as_they_are_printed(rig, toolbox):
    toolbox.add("finds", REPORT)
    drover = Drover(rig, toolbox, QUICK)
    path = f"nomad/jobs/{PARENT}"
    try:
        # One is there already, one is not.
        rig.nomad.call("DELETE", f"/v1/var/{path}-large?namespace={drover.namespace}").expect(204)
        tokens, printed = init(drover)
        assert run_printed(rig, printed, drover.namespace, S3_ACCESS_KEY=rig.minio.access_key, S3_SECRET_KEY=rig.minio.secret_key) == 4
        for name in (path, path + "-large", path.replace("-run-", "-workers-")):
            items = rig.nomad.get(f"/v1/var/{name}", namespace=drover.namespace)["Items"]
            assert items["DROVER_TOKEN"] == tokens["worker"] and items["S3_SECRET_KEY"] == rig.minio.secret_key
        drover.start()
        assert drover.call("GET", "/v1/runs").status == 401
        analyst = {"DROVER_TOKEN": tokens["analyst"]}
        wait.until("the workflow to be loaded", lambda: "finds" in drover.cli("workflow", "list", env=analyst).stdout)
        done = drover.cli("run", "finds", path_of_target(drover), "--wait", env=analyst)
        assert "planted" in done.stdout
    finally:
        drover.close()


def path_of_target(drover):
    path = os.path.join(drover.folder, "target")
    os.makedirs(path)
    with open(os.path.join(path, "a.txt"), "w", encoding="utf-8") as file:
        file.write("planted\n")
    return path


# More than one ledger --------------------------------------------------------------------------------------------


def test_empty_ledger_is_refused_where_nomad_remembers_another(rig, toolbox):
    toolbox.add("slow", HOLD + REPORT)
    old = Drover(rig, toolbox, QUICK).start()
    fresh = Drover(rig, toolbox, {**QUICK, "NOMAD_NAMESPACE": old.namespace})
    try:
        run = old.submit("slow")
        reached(old, run["id"])
        job, alloc = old.child(run["id"])
        ledger = rig.nomad.job(PARENT, old.namespace)["Meta"]["drover_ledger"]
        old.kill9()
        fresh.start(ready=False)
        assert fresh.process.wait() not in (0, None)
        words = fresh.process.log_text()
        assert ledger in words and PARENT in words and "DROVER_NEW_LEDGER=yes" in words, words
        assert rig.nomad.job(PARENT, old.namespace)["Meta"]["drover_ledger"] == ledger
        # Asked again it is refused again: the first start has left nothing that makes its ledger look used.
        fresh.start(ready=False)
        assert fresh.process.wait() not in (0, None)
        fresh.settings["DROVER_NEW_LEDGER"] = "yes"
        fresh.start()
        reached(fresh, fresh.submit("slow")["id"])
        assert rig.nomad.job(PARENT, old.namespace)["Meta"]["drover_ledger"] != ledger
        # The other ledger's child is none of its business.
        theirs = rig.nomad.job(job, old.namespace)
        assert theirs["Status"] == "running" and not theirs["Stop"]
        assert rig.nomad.get(f"/v1/allocation/{alloc}")["DesiredStatus"] == "run"
    finally:
        fresh.close()
        old.close()


def test_jobs_of_another_ledger_are_left_alone_when_nomad_comes_late(rig, toolbox):
    """At the start nobody could be asked whose the jobs are."""
    toolbox.add("finds", REPORT)
    old = Drover(rig, toolbox, QUICK).start()
    fresh = Drover(rig, toolbox, {**QUICK, "NOMAD_NAMESPACE": old.namespace})
    try:
        old.wait_run(old.submit("finds")["id"], "completed")
        before = rig.nomad.job(PARENT, old.namespace)
        old.kill9()
        rig.nomad.kill9()
        fresh.start()
        rig.nomad.start()
        ledger = before["Meta"]["drover_ledger"]
        told = wait.until("health to tell", lambda: ledger in (why := fresh.get("/v1/agent/health")["components"]["nomad"]) and why, 60)
        assert "another Drover" in told
        assert fresh.run(fresh.submit("finds")["id"])["state"] == "queued"
        assert rig.nomad.job(PARENT, old.namespace)["JobModifyIndex"] == before["JobModifyIndex"]
        fresh.kill9()
        old.start()
        old.wait_run(old.submit("finds")["id"], "completed")
    finally:
        rig.heal()
        fresh.close()
        old.close()


def test_two_drovers_in_one_namespace(rig, toolbox):
    """Prefixes of which one begins like the other's jobs."""
    toolbox.add("slow", HOLD + REPORT)
    one = Drover(rig, toolbox, QUICK).start()
    two = Drover(rig, toolbox, {**QUICK, "NOMAD_NAMESPACE": one.namespace, "DROVER_JOB_PREFIX": "drover-run"})
    keys = {name: two.settings[name] for name in ("S3_ACCESS_KEY", "S3_SECRET_KEY")}
    rig.nomad.put_variable("nomad/jobs/drover-run-run-story", keys, one.namespace)
    drovers = (one, two)
    try:
        two.start()
        runs = [drover.submit("slow") for drover in drovers]
        for drover, run in zip(drovers, runs):
            reached(drover, run["id"])
        children = [drover.child(run["id"])[0] for drover, run in zip(drovers, runs)]
        assert children[0].startswith(f"{PARENT}/dispatch-") and children[1].startswith("drover-run-run-story/dispatch-")
        for drover in drovers:
            drover.restart()
        # Each has compared its listing with its ledger once it runs something new.
        for drover, run in zip(drovers, runs):
            second = drover.submit("slow")
            reached(drover, second["id"])
            for started in (run["id"], second["id"]):
                go_on(drover, started)
                ended = drover.wait_run(started, "completed")
                assert ended["attempt"] == 1 and outcomes(drover, started) == ["completed"]
        left = lambda: [job["ID"] for job in rig.nomad.jobs(namespace=one.namespace) if job["ParentID"]]
        wait.until("each to purge its own", lambda: not left(), 60)
        assert [drover.get("/v1/agent/health")["components"]["nomad"] for drover in drovers] == ["ok", "ok"]
    finally:
        one.stop()
        two.close()
        one.close()
