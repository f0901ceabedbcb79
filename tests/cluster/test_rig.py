"""The rig itself: a story on a rig that lies proves nothing."""

import os
import subprocess
import sys

import pytest

from rig import Rig, ports, sweep, wait

SLEEPER = """
job "sleeper" {
  type = "batch"
  group "g" {
    task "t" {
      driver = "raw_exec"
      config {
        command = "/bin/sh"
        args    = ["-c", "echo ready; setsid env -i sleep 86001 & exec env -i sleep 86002"]
      }
    }
  }
}
"""

CONTAINER = """
variable "image" {
  type = string
}
job "container" {
  type = "batch"
  group "g" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "t" {
      driver = "docker"
      config {
        image        = var.image
        command      = "/bin/sh"
        args         = ["-c", "echo from the image; exec sleep 86003"]
        network_mode = "host"
      }
    }
  }
}
"""


@pytest.fixture(name="sleeper")
def sleeper_fixture(nomad):
    """An allocation with two processes that carry no marker, one of them in a session of its own."""
    nomad.run_hcl(SLEEPER)
    alloc = nomad.wait_alloc("sleeper", "running")
    wait.until("both sleeps to run", lambda: len(sleeps(nomad, alloc)) == 2)
    yield alloc
    nomad.clear_namespace("default")


def sleeps(nomad, alloc):
    """Pids of the allocation's sleeps."""
    found = []
    for pid in nomad.alloc_pids(alloc["ID"]):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if file.read().startswith(b"sleep\0"):
                found.append(pid)
    return sorted(found)


def test_servers_are_ready_and_minio_is_healthy_in_consul(rig):
    assert rig.consul.passing("minio") == [rig.minio.address]
    node = rig.client.node()
    assert node["Drivers"]["raw_exec"]["Healthy"]
    assert "drover-cache" in node["HostVolumes"]


def test_nomad_program_reaches_the_agent(rig):
    assert rig.client.node()["ID"][:8] in rig.nomad.cli("node", "status").stdout


def test_task_runs_and_shows_its_log(nomad, sleeper):
    wait.until("the task's output", lambda: nomad.logs(sleeper["ID"], "t") == "ready\n")


@pytest.mark.parametrize("who", ["nomad", "client"])
def test_tasks_survive_the_agent_and_can_be_stopped_soon_after(rig, nomad, sleeper, who):
    agent = getattr(rig, who)
    before = sleeps(nomad, sleeper)
    agent.kill9()
    assert sleeps(nomad, sleeper) == before
    agent.start()
    wait.until("the allocation to run", lambda: [alloc["ClientStatus"] for alloc in nomad.allocs("sleeper")] == ["running"])
    assert sleeps(nomad, sleeper) == before
    nomad.stop_job("sleeper")
    nomad.wait_alloc("sleeper", "complete")
    wait.until("both sleeps to be gone", lambda: not sleeps(nomad, sleeper))


def test_consul_keeps_its_state_over_kill9(rig):
    rig.consul.call("PUT", "/v1/kv/rig/key", body=b"value").expect(200)
    rig.consul.restart()
    assert rig.consul.call("GET", "/v1/kv/rig/key?raw").expect(200).text == "value"
    wait.until("minio to be healthy again", lambda: rig.consul.passing("minio") == [rig.minio.address])


def test_minio_keeps_its_objects_over_kill9_and_a_move(rig):
    client = rig.minio.s3()
    client.make_bucket("rig-bucket")
    client.put("rig-bucket", "a b/ü+~.txt", b"bytes", {"x-amz-meta-who": "rig"})
    rig.minio.restart()
    old = rig.minio.move()
    assert rig.minio.address != old
    assert rig.consul.passing("minio") == [rig.minio.address]
    client = rig.minio.s3()
    assert client.list("rig-bucket") == {"a b/ü+~.txt": 5}
    assert client.get("rig-bucket", "a b/ü+~.txt") == b"bytes"
    assert client.head("rig-bucket", "a b/ü+~.txt")["x-amz-meta-who"] == "rig"
    client.drop_bucket("rig-bucket")
    assert "rig-bucket" not in client.list_buckets()


def test_heal_brings_back_what_was_killed(rig):
    for server in rig.servers():
        server.kill9()
    rig.heal()
    assert all(server.alive() for server in rig.servers())
    assert rig.consul.passing("minio") == [rig.minio.address]


def test_second_client_can_be_lost(rig):
    client = rig.add_client()
    assert client.node_status() == "ready"
    client.kill9()
    wait.until("the server to see that it is gone", lambda: client.node_status() in ("down", "disconnected"))
    client.start()
    rig.remove_client(client)
    assert [entry["Name"] for entry in rig.nomad.get("/v1/nodes")] == [rig.client.name]
    assert all(server.alive() for server in rig.servers())


def test_events_tell_of_a_new_job(nomad):
    index = int(nomad.call("GET", "/v1/jobs").headers["x-nomad-index"]) + 1
    nomad.run_hcl(SLEEPER)
    seen = next(nomad.events("Job", index=index))
    assert (seen["Topic"], seen["Key"]) == ("Job", "sleeper")
    nomad.clear_namespace("default")
    assert nomad.jobs() == []


def test_namespace_is_cleared(nomad):
    nomad.make_namespace("rig-test")
    nomad.run_hcl(SLEEPER, namespace="rig-test")
    alloc = nomad.wait_alloc("sleeper", "running", namespace="rig-test")
    nomad.clear_namespace("rig-test")
    assert nomad.jobs(namespace="*") == []
    wait.until("its processes to be gone", lambda: not nomad.alloc_pids(alloc["ID"]))


def test_image_from_the_host_runs_under_docker(rig, engine):
    image = engine.image_from_host(f"rig-{rig.id}:test", ["/bin/sh", "sleep"])
    try:
        rig.nomad.run_hcl(CONTAINER, image=image)
        alloc = rig.nomad.wait_alloc("container", "running", "failed")
        assert alloc["ClientStatus"] == "running", alloc["TaskStates"]
        wait.until("the container's output", lambda: rig.nomad.logs(alloc["ID"], "t") == "from the image\n")
        assert len(sweep.containers(engine, rig.folder)) == 1
    finally:
        rig.nomad.clear_namespace("default")
        wait.until("the image to be free", lambda: engine("rmi", "-f", image, check=False).returncode == 0)


def test_ports_are_not_given_twice():
    one, two = ports.Ports(), ports.Ports()
    taken = [source.take() for source in (one, two) for _ in range(40)]
    assert len(set(taken)) == len(taken)
    assert all(ports.FIRST_PORT <= port <= ports.LAST_PORT for port in taken)
    one.release()
    two.release()


def test_wait_names_what_did_not_come():
    with pytest.raises(wait.TimedOut, match="the impossible: not within 0.05 s"):
        wait.until("the impossible", lambda: False, 0.05)
    with pytest.raises(wait.TimedOut, match="gave up: it died"):
        wait.until("the impossible", lambda: False, 5, lambda: "it died")


# A rig of its own in a process of its own, which ends by itself or is killed.
CHILD = """
import os, signal, sys
from rig import Rig, wait
from test_rig import SLEEPER, sleeps
rig = Rig()
print(rig.id, rig.folder, flush=True)
rig.start_servers(with_docker=False)
rig.nomad.run_hcl(SLEEPER)
alloc = rig.nomad.wait_alloc("sleeper", "running")
wait.until("both sleeps to run", lambda: len(sleeps(rig.nomad, alloc)) == 2)
if sys.argv[1] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
assert len([line for line in rig.leftovers() if "sleep 8600" in line]) == 2, rig.leftovers()
rig.teardown()
"""


@pytest.mark.parametrize("end", ["teardown", "kill"])
def test_nothing_is_left_behind(end):
    child = subprocess.run(
        [sys.executable, "-B", "-c", CHILD, end],
        cwd=os.path.dirname(os.path.abspath(__file__)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert child.returncode == {"teardown": 0, "kill": -9}[end], child.stderr
    rig_id, folder = child.stdout.split()
    wait.until("the reaper to finish", lambda: not sweep.leftovers(sweep.rig_claim(rig_id, folder)))


def test_teardown_tells_of_what_it_could_not_remove(monkeypatch):
    rig = Rig()
    monkeypatch.setattr(sweep, "everything", lambda *_, **__: None)
    with pytest.raises(AssertionError, match=f"folder {rig.folder}"):
        rig.teardown()
    os.rmdir(rig.logs)
    os.rmdir(rig.temp)
    os.rmdir(rig.folder)
