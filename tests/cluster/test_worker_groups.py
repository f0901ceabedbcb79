"""Warm worker groups on Nomad: registered, scaled by hand, changed under load, stopped, drained, killed, unfit."""

import os
import signal

import pytest

from conftest import QUICK
from rig import Drover, binaries, wait
from rig.autoscale import Autoscaler
from rig.nomad import MEMORY_MB
from rig.toolbox import REPORT, Toolbox
from stories.runs import nothing_left, outcomes
from stories.steps import HOLD, go_on, reached

GROUP = "drover-workers-story"


class Warm:
    """A dispatcher whose vertical has warm workers alone, and its group in Nomad."""

    def __init__(self, rig, folder, settings=None, **vertical):
        self.rig, self.nomad = rig, rig.nomad
        options = {"capacity": "warm", "slots": 2, "warm": {"max": 5, "cpu": "1000m", "memory": "1GiB"}, **vertical}
        self.toolbox = Toolbox(folder, **options)
        # Leases far longer than any test waits: what is seen was not seen by their end.
        self.drover = Drover(rig, self.toolbox, {**QUICK, "LEASE_TTL": "10m", **(settings or {})}).start()

    def job(self):
        return self.nomad.job(GROUP, self.drover.namespace)

    def wait_job(self):
        return wait.until("the group", self.job)

    def scale(self, count, workers=None):
        """By hand, as an operator; waits until so many workers are registered."""
        self.wait_job()
        self.nomad.cli("job", "scale", "-detach", GROUP, "workers", str(count), namespace=self.drover.namespace)
        wanted = count if workers is None else workers
        wait.until(f"{wanted} workers", lambda: len(self.workers()) == wanted, 60)

    def workers(self):
        return [w for w in self.drover.get("/v1/workers")["workers"] if w["mode"] == "loop"]

    def wait_draining(self, count):
        wait.until(f"{count} workers to be draining", lambda: [w["draining"] for w in self.workers()] == [True] * count)

    def allocs(self):
        return self.nomad.allocs(GROUP, self.drover.namespace)

    def live(self):
        return [a["ID"] for a in self.allocs() if a["DesiredStatus"] == "run" and a["ClientStatus"] in ("pending", "running")]

    def held(self, name="slow"):
        """A run whose step waits, and the allocation that it is in."""
        self.toolbox.add(name, HOLD + REPORT)
        run = self.drover.submit(name)
        reached(self.drover, run["id"])
        return run["id"], self.drover.run(run["id"])["alloc_id"]

    def finish(self, run_id, attempt):
        reached(self.drover, run_id, attempt=attempt)
        go_on(self.drover, run_id)
        run = self.drover.wait_run(run_id, "completed")
        assert outcomes(self.drover, run_id) == ["completed"] and run["attempt"] == attempt
        nothing_left(self.drover, run_id)
        return run

    def wait_idle(self, run_id, count):
        """Wait until so many workers have an open call for work, and nothing to do; run_id: of a run that waits for them."""
        workers = lambda: self.drover.get(f"/v1/run/{run_id}/explain")["explain"]["workers"]
        wait.until(f"{count} workers to ask for work", lambda: [w["state"] for w in workers()] == ["idle"] * count)

    def waiting(self, run_id):
        return self.drover.run(run_id).get("waiting") or {}


@pytest.fixture(name="make_warm")
def make_warm_fixture(rig, tmp_path):
    made = []

    def make(settings=None, **vertical):
        made.append(Warm(rig, str(tmp_path / f"toolbox{len(made)}"), settings, **vertical))
        return made[-1]

    yield make
    rig.heal()
    for warm in made:
        warm.drover.close()


@pytest.fixture(name="warm")
def warm_fixture(make_warm):
    return make_warm()


@pytest.fixture(name="second_client")
def second_client_fixture(rig):
    client = rig.add_client()
    yield client
    client.eligible()
    rig.remove_client(client)


# Registered, and scaled by hand ----------------------------------------------------------------------------------


def test_group_scaled_by_hand_takes_the_runs(warm):
    """From zero to two and back; leases go to the lowest index; nothing else asks Nomad for workers."""
    job = warm.wait_job()
    group = job["TaskGroups"][0]
    assert (job["Type"], group["Count"], group["Scaling"]["Max"], job["Stop"]) == ("service", 0, 5, False)
    assert group["Scaling"]["Policy"]["check"][0]["queue"][0]["source"] == "drover"
    warm.toolbox.add("finds", REPORT)
    first = warm.drover.submit("finds")
    wait.until("the run to say why it waits", lambda: "count 0" in warm.waiting(first["id"]).get("text", ""))
    warm.scale(2)
    run = warm.drover.wait_run(first["id"], "completed")
    by_index = {a["Name"].split("[")[1][:-1]: a["ID"] for a in warm.allocs() if a["ID"] in warm.live()}
    assert run["job_id"] == GROUP and run["alloc_id"] in by_index.values()
    waits = warm.drover.submit("finds", not_before="2099-01-01T00:00:00.000Z")["id"]
    for _ in range(3):
        warm.wait_idle(waits, 2)  # between two calls for work a worker has no place in the line
        again = warm.drover.wait_run(warm.drover.submit("finds")["id"], "completed")
        assert again["alloc_id"] == by_index["0"]
    assert not [j for j in warm.nomad.jobs(namespace=warm.drover.namespace) if j["ParentID"]]
    warm.scale(0)
    idle = wait.until("the group at zero", lambda: warm.job() if warm.job()["TaskGroups"][0]["Count"] == 0 else None)
    assert idle["Stop"] is False


def test_count_is_the_operators(warm):
    """Neither a restart of the dispatcher nor a change of the settings touches it, and nothing is registered without need."""
    warm.scale(3)
    before, allocs = warm.job(), sorted(warm.live())
    warm.drover.restart()
    wait.until("three workers", lambda: len(warm.workers()) == 3)
    warm.toolbox.add("finds", REPORT)
    warm.drover.wait_run(warm.drover.submit("finds")["id"], "completed")
    assert warm.job()["JobModifyIndex"] == before["JobModifyIndex"]
    group = {"max": 9, "cpu": "1000m", "memory": "1GiB", "strategy": "target-value", "target": 3, "threshold": 0.25, "max_scale_up": 2}
    warm.toolbox.vertical(warm={**group, "stabilization_down": "3m", "cooldown": "20s", "foreign_hold": "7s", "start_failures": 5})
    after = wait.until("the new bounds", lambda: warm.job() if warm.job()["TaskGroups"][0]["Scaling"]["Max"] == 9 else None)
    assert after["TaskGroups"][0]["Count"] == 3 and sorted(warm.live()) == allocs
    policy = after["TaskGroups"][0]["Scaling"]["Policy"]
    strategy = policy["check"][0]["queue"][0]["strategy"][0]["target-value"][0]
    assert strategy == {"target": 3, "slots": 2, "threshold": 0.25, "max_scale_up": 2, "max_scale_down": 0}
    wanted = {"stabilization_down": "180s", "cooldown": "20s", "foreign_hold": "7s", "start_failures": 5, "stale_after": "15s"}
    assert {key: policy[key] for key in wanted} == wanted


def test_group_run_by_hand_with_nomad(warm, tmp_path):
    """`nomad job run` takes the very file; the dispatcher makes its own of it again, and keeps the count."""
    warm.wait_job()
    hcl = os.path.join(warm.drover.settings["DROVER_JOBS_DIR"], "workers.nomad.hcl")
    values = tmp_path / "values.hcl"
    values.write_text(f'vertical = "story"\nnamespace = "{warm.drover.namespace}"\ndriver = "raw_exec"\ncommand = "/bin/true"\ncount = 1\n')
    warm.nomad.cli("job", "run", "-detach", "-var-file", str(values), hcl, namespace=warm.drover.namespace)
    wait.until("a worker of the dispatcher's own job", lambda: len(warm.workers()) == 1, 60)
    assert warm.job()["TaskGroups"][0]["Count"] == 1


def test_stopped_group_stays_stopped(warm):
    warm.scale(1)
    warm.nomad.stop_job(GROUP, namespace=warm.drover.namespace)
    wait.until("no worker", lambda: not warm.workers())
    warm.toolbox.add("finds", REPORT)
    run = warm.drover.submit("finds")
    wait.until("the run to say so", lambda: "stopped by an operator" in warm.waiting(run["id"]).get("text", ""))
    warm.drover.restart()
    wait.until("the run to say so again", lambda: "stopped by an operator" in warm.waiting(run["id"]).get("text", ""))
    assert warm.job()["Stop"] is True
    warm.nomad.cli("job", "start", "-detach", GROUP, namespace=warm.drover.namespace)
    warm.drover.wait_run(run["id"], "completed")


# Changed under load ----------------------------------------------------------------------------------------------


def test_changed_group_is_rolled_without_killing_work(warm):
    warm.scale(2)
    run, alloc = warm.held()
    before = set(warm.live())
    warm.toolbox.vertical(warm={"max": 5, "cpu": "1200m", "memory": "1GiB"})
    warm.wait_draining(2)
    assert warm.job()["TaskGroups"][0]["Tasks"][0]["Resources"]["CPU"] == 1000 and set(warm.live()) == before
    later = warm.drover.submit("slow")
    go_on(warm.drover, run)
    done = warm.drover.wait_run(run, "completed")
    assert (done["attempt"], done["alloc_id"]) == (1, alloc)
    wait.until("the group to be replaced", lambda: len(warm.live()) == 2 and not before & set(warm.live()), 60)
    assert warm.job()["TaskGroups"][0]["Tasks"][0]["Resources"]["CPU"] == 1200
    assert warm.job()["TaskGroups"][0]["Count"] == 2
    warm.finish(later["id"], 1)


def test_roll_ends_at_its_limit(make_warm):
    """What does not end in time is handed back when Nomad stops the worker, off the budget, and goes on in a new one."""
    warm = make_warm({"ROLL_LIMIT": "1s"})
    warm.scale(1)
    run, alloc = warm.held()
    warm.toolbox.vertical(warm={"max": 5, "cpu": "1200m", "memory": "1GiB"})
    reached(warm.drover, run, attempt=2)
    assert warm.drover.run(run)["alloc_id"] != alloc
    warm.finish(run, 2)


def test_bound_below_the_count_waits_for_the_workers(warm):
    """Nomad would stop the highest ones at once: they end their runs first."""
    warm.scale(2)
    run, alloc = warm.held()
    warm.toolbox.vertical(warm={"max": 1, "cpu": "1000m", "memory": "1GiB"})
    warm.wait_draining(2)
    assert len(warm.live()) == 2
    go_on(warm.drover, run)
    done = warm.drover.wait_run(run, "completed")
    assert (done["attempt"], done["alloc_id"]) == (1, alloc)
    wait.until("one worker to be left", lambda: len(warm.live()) == 1 and warm.job()["TaskGroups"][0]["Count"] == 1)


# Not wanted any more ---------------------------------------------------------------------------------------------


def at_rest(warm):
    """Whether the group has no workers, nobody may scale it, and it is not stopped either."""
    group = warm.job()["TaskGroups"][0]
    rests = group["Count"] == 0 and group["Scaling"]["Enabled"] is False and not warm.job()["Stop"]
    # Those whose allocations are stopped are there until they have left: they must not pass for ones that are back.
    return rests and not warm.live() and not warm.workers()


def test_group_of_a_vertical_that_wants_none_any_more(warm):
    """capacity: job takes the workers away as they fall idle; changed back, the operator's count is there again."""
    warm.scale(2)
    run, alloc = warm.held()
    before = set(warm.live())
    warm.toolbox.vertical(capacity="job")
    warm.wait_draining(2)
    assert warm.drover.cli("workers").stdout.count("draining") == 2
    shown = warm.drover.get(f"/v1/run/{run}/explain")["explain"]["workers"]
    assert [w["state"] for w in shown] == ["draining"] * 2
    # Others go on meanwhile, by one-shots; what insists on warm workers is told why there are none.
    warm.toolbox.add("finds", REPORT)
    other = warm.drover.wait_run(warm.drover.submit("finds")["id"], "completed")
    assert other["job_id"].startswith("drover-run-story/")
    warm.toolbox.add("insists", REPORT, execution="warm")
    insists = warm.drover.submit("insists")["id"]
    wait.until("it to say why it waits", lambda: "capacity 'job'" in warm.waiting(insists).get("text", ""))
    assert "capacity 'job'" in warm.drover.cli("explain", insists).stdout
    assert set(warm.live()) == before and warm.job()["TaskGroups"][0]["Count"] == 2
    go_on(warm.drover, run)
    done = warm.drover.wait_run(run, "completed")
    assert (done["attempt"], done["alloc_id"]) == (1, alloc)
    wait.until("the group at rest", lambda: at_rest(warm))
    # Neither a restart nor an operator who scales it wakes it; the vertical does.
    warm.drover.restart()
    warm.nomad.cli("job", "scale", "-detach", GROUP, "workers", "3", namespace=warm.drover.namespace)
    wait.until("it to be at rest again", lambda: at_rest(warm), 60)
    warm.toolbox.vertical(capacity="hybrid")
    wait.until("the workers to be back", lambda: len(warm.workers()) == 3, 60)
    group = warm.job()["TaskGroups"][0]
    assert (group["Count"], group["Scaling"]["Enabled"]) == (3, True)
    assert warm.drover.wait_run(insists, "completed")["job_id"] == GROUP


def test_change_taken_back_before_the_last_run_has_ended(warm):
    warm.scale(2)
    run, alloc = warm.held()
    before = sorted(warm.live())
    warm.toolbox.vertical(capacity="job")
    warm.wait_draining(2)
    warm.toolbox.vertical(capacity="warm")
    wait.until("them to take work again", lambda: not any(w["draining"] for w in warm.workers()))
    go_on(warm.drover, run)
    assert warm.drover.wait_run(run, "completed")["alloc_id"] == alloc
    group = warm.job()["TaskGroups"][0]
    assert (group["Count"], group["Scaling"]["Enabled"], sorted(warm.live())) == (2, True, before)


def test_vertical_that_goes_while_no_dispatcher_runs(warm):
    """The next dispatcher finds the group, and takes nothing away from a worker that has not said yet what it holds."""
    warm.scale(2)
    run, alloc = warm.held()
    folder, kept = os.path.join(warm.toolbox.folder, "verticals", "story"), os.path.join(warm.toolbox.folder, "kept")
    warm.drover.stop()
    os.rename(folder, kept)
    warm.drover.start()
    wait.until("the group to be given up", lambda: not warm.job()["TaskGroups"][0]["Scaling"]["Enabled"])
    warm.wait_draining(2)
    go_on(warm.drover, run)
    done = warm.drover.wait_run(run, "completed")
    assert (done["attempt"], done["alloc_id"]) == (1, alloc)
    wait.until("the group at rest", lambda: at_rest(warm))
    os.rename(kept, folder)
    wait.until("the workers to be back", lambda: len(warm.workers()) == 2, 60)


def test_group_of_a_broken_vertical_stays(warm):
    """What cannot be read says nothing: neither a broken file nor a toolbox that is not there takes workers away."""
    warm.scale(1)
    warm.toolbox.add("finds", REPORT)
    warm.drover.wait_workflow("finds")
    before = warm.job()["JobModifyIndex"]
    warm.toolbox.vertical(capacity="nonsense")
    wait.until("the file to be found broken", lambda: [b for b in warm.drover.get("/v1/workflows")["broken"] if b["name"] == "story"])
    folder, away = os.path.join(warm.toolbox.folder, "verticals"), os.path.join(warm.toolbox.folder, "away")
    os.rename(folder, away)
    wait.until("the folder to be missed", lambda: not [b for b in warm.drover.get("/v1/workflows")["broken"] if b["name"] == "story"])
    os.rename(away, folder)
    warm.toolbox.vertical(capacity="warm")
    warm.toolbox.add("later", REPORT)  # read after the vertical is there again
    warm.drover.wait_run(warm.drover.submit("later")["id"], "completed")
    assert warm.job()["JobModifyIndex"] == before and len(warm.live()) == 1


# Taken away under load -------------------------------------------------------------------------------------------


def test_stopped_allocation_hands_its_run_back(warm):
    warm.scale(1)
    run, alloc = warm.held()
    warm.nomad.stop_alloc(alloc)
    reached(warm.drover, run, attempt=2)
    assert warm.drover.run(run)["alloc_id"] != alloc
    warm.finish(run, 2)


def test_stopped_allocation_may_end_its_run(warm):
    """The run that ends within kill_timeout is not tried again."""
    warm.scale(1)
    run, alloc = warm.held()
    warm.nomad.stop_alloc(alloc)
    wait.until("the allocation to be stopped", lambda: alloc not in warm.live())
    go_on(warm.drover, run)
    done = warm.drover.wait_run(run, "completed")
    assert (done["attempt"], done["alloc_id"]) == (1, alloc)


def test_drained_node_hands_its_runs_back(warm, rig, second_client):
    warm.scale(2)
    run, alloc = warm.held()
    node = next(a["NodeID"] for a in warm.allocs() if a["ID"] == alloc)
    client = next(c for c in rig.clients if c.node()["ID"] == node)
    client.drain(1)
    try:
        reached(warm.drover, run, attempt=2)
        assert warm.drover.run(run)["alloc_id"] != alloc
        warm.finish(run, 2)
    finally:
        client.eligible()


def test_killed_worker_loses_its_run_at_once(warm):
    """kill -9: Nomad's word that the task has ended counts, not the lease's end; the worker comes back by itself."""
    warm.scale(1)
    run, alloc = warm.held()
    for client in warm.rig.clients:
        try:
            os.kill(client.task_pid(alloc), signal.SIGKILL)
        except LookupError:
            continue
    reached(warm.drover, run, attempt=2)
    assert warm.drover.run(run)["alloc_id"] == alloc and len(warm.live()) == 1
    warm.finish(run, 2)


def test_dispatcher_killed_while_warm_workers_run(warm):
    warm.scale(2)
    run, alloc = warm.held()
    warm.drover.kill9()
    warm.drover.start()
    wait.until("both workers", lambda: len(warm.workers()) == 2)
    go_on(warm.drover, run)
    done = warm.drover.wait_run(run, "completed")
    assert (done["attempt"], done["alloc_id"]) == (1, alloc)


# In containers ---------------------------------------------------------------------------------------------------


@pytest.fixture(name="contained")
def contained_fixture(rig, engine, make_warm):
    """A group whose workers are containers, as they are shipped: no capability, a read-only root, the cache on a host volume."""
    # Not where it was built: that may be below /tmp, which a task has for itself.
    folder = "/usr/local/bin"
    ours = {f"{folder}/{name}": binaries.drover(name) for name in ("drover-worker", "drover-sandbox")}
    programs = [*ours.values(), "/bin/sh", "true", "id", "grep", "sleep"]
    image = engine.image_from_host(f"warm-{rig.id}:test", programs, ours)
    os.chmod(rig.client.cache_folder, 0o777)
    settings = {"DROVER_DRIVER": "docker", "DOCKER_NETWORK": "host", "CACHE_VOLUME": "drover-cache", "WORKER_ENV_FILE": ""}
    warm = make_warm(settings, driver="docker", image=image, warm={"max": 2, "cpu": "1000m", "memory": "1GiB", "stabilization_down": "2s"})
    warm.drover.cache_folder = rig.client.cache_folder
    warm.wait_job()
    return warm


def containers(rig, alloc):
    return rig.docker("ps", "-q", "--filter", f"name=worker-{alloc}").stdout.split()


def test_group_of_containers_from_nothing_and_back(contained, rig):
    """The autoscaler starts a container, it works, is stopped while busy and replaced, and goes when nothing is left."""
    warm, scaler = contained, Autoscaler(contained.drover)
    scaler.start()
    try:
        run, alloc = warm.held()
        assert len(containers(rig, alloc)) == 1 and warm.job()["TaskGroups"][0]["Count"] == 1
        worker = warm.workers()[0]
        assert worker["health"] == "" and worker["slots"] >= 1, worker
        wait.until("Consul to find it ready", lambda: "passing" in consul_status(rig))
        warm.toolbox.add("who", "id -u; grep CapEff /proc/self/status\n" + REPORT)
        warm.nomad.stop_alloc(alloc)
        reached(warm.drover, run, attempt=2)
        assert warm.drover.run(run)["alloc_id"] != alloc
        done = warm.finish(run, 2)
        assert done["sandbox"]["rung"] == 2
        who = warm.drover.wait_run(warm.drover.submit("who")["id"], "completed")
        log = warm.drover.logs(who["id"])
        assert "65534" in log and "0000000000000000" in log and who["job_id"] == GROUP
        last = who["alloc_id"]
        wait.until("the group to be empty again", lambda: warm.job()["TaskGroups"][0]["Count"] == 0 and not warm.live(), 60)
        wait.until("the containers to be gone", lambda: not containers(rig, alloc) + containers(rig, last))
        assert scaler.metric("drover_autoscale_other_stops_total") == 0
    finally:
        scaler.stop()


# Not fit, and not there ------------------------------------------------------------------------------------------


def consul_status(rig, vertical="story"):
    entries = rig.consul.get("/v1/health/service/drover-worker")
    return [check["Status"] for entry in entries if vertical in entry["Service"]["Tags"] for check in entry["Checks"] if check["ServiceID"]]


def test_unfit_worker_takes_nothing_and_heals(make_warm, rig):
    """Without the object store the worker asks for no runs, says why everywhere, and goes on when it is back."""
    warm = make_warm()
    warm.scale(1)
    wait.until("Consul to find it ready", lambda: "passing" in consul_status(rig))
    warm.toolbox.add("finds", REPORT)
    warm.drover.wait_run(warm.drover.submit("finds")["id"], "completed")
    target = warm.drover.upload({"a.txt": "planted\n"})
    rig.minio.kill9()
    unfit = wait.until("the worker to say why", lambda: next((w["health"] for w in warm.workers() if w["health"]), None), 60)
    assert "store" in unfit
    wait.until("Consul to take it out", lambda: "critical" in consul_status(rig))
    assert "store" in warm.drover.cli("workers").stdout
    run = warm.drover.submit("finds", target)
    # The worker's words, or the dispatcher's own, which cannot reach the store either.
    wait.until("the run to say why it waits", lambda: "store" in warm.waiting(run["id"]).get("text", ""))
    assert warm.drover.run(run["id"])["attempt"] == 0
    rig.minio.start()
    rig.minio.announce()
    warm.drover.wait_run(run["id"], "completed")
    assert warm.drover.run(run["id"])["attempt"] == 1
    wait.until("Consul to find it ready again", lambda: "passing" in consul_status(rig))


def test_worker_without_its_tools_waits_for_them(make_warm, tmp_path):
    """It takes nothing, says what is missing, and begins when the tool has been installed, without a restart."""
    there = tmp_path / "installed"
    warm = make_warm(tools=[{"name": "late", "probe": ["sh", "-c", f"test -e {there} && echo 1.0"]}])
    warm.scale(1)
    before = warm.workers()[0]
    assert "late" in before["health"] and before["missing"] == ["late"]
    warm.toolbox.add("finds", REPORT)
    run = warm.drover.submit("finds")
    wait.until("the run to say why it waits", lambda: "late" in warm.waiting(run["id"]).get("text", ""))
    assert warm.drover.run(run["id"])["attempt"] == 0
    there.touch()
    assert warm.drover.wait_run(run["id"], "completed")["attempt"] == 1
    after = warm.workers()[0]
    assert (after["id"], after["health"], after["missing"]) == (before["id"], "", [])


def test_group_without_room_says_so(make_warm):
    """A node that is busy is told from one that is too small: what waits for it is not given up."""
    half = f"{MEMORY_MB * 2 // 3}MiB"
    warm = make_warm({"UNPLACEABLE_LIMIT": "1s"}, slots=1, warm={"max": 5, "cpu": "1000m", "memory": half})
    warm.scale(2, workers=1)
    run, _ = warm.held()
    later = warm.drover.submit("slow")["id"]
    said = wait.until("the placement failure", lambda: "memory exhausted" in (w := warm.waiting(later)).get("text", "") and w)
    assert said["code"] == "warm_start" and GROUP in said["text"], said
    # One that may wait for so long is gone, and it still waits.
    bounded = warm.drover.submit("slow", max_wait_ms=3000)["id"]
    assert warm.drover.wait_run(bounded, "failed")["fail_class"] == "timeout"
    wait.until("it still to wait for memory", lambda: "memory exhausted" in warm.waiting(later).get("text", ""))
    go_on(warm.drover, run)
    warm.finish(later, 1)


def test_group_that_fits_no_node_says_so(make_warm):
    """Within seconds, with the figures; a node that is large enough ends it, here by smaller workers."""
    warm = make_warm(warm={"max": 5, "cpu": "1000m", "memory": "900GiB"})
    warm.toolbox.add("finds", REPORT)
    run = warm.drover.submit("finds")
    warm.scale(1, workers=0)
    said = wait.until("the run to say so", lambda: (w := warm.waiting(run["id"]))["code"] == "unplaceable" and w)
    assert f"{GROUP}: no place for a worker: no node has 921600 MB of memory; the largest has {MEMORY_MB}" in said["text"], said
    warm.toolbox.vertical(warm={"max": 5, "cpu": "1000m", "memory": "1GiB"})
    warm.drover.wait_run(run["id"], "completed")


def test_run_of_a_group_that_fits_no_node_fails_where_that_is_wanted(make_warm):
    warm = make_warm({"UNPLACEABLE_LIMIT": "2s"}, warm={"max": 5, "cpu": "200", "memory": "2GiB"})
    warm.toolbox.add("finds", REPORT)
    run = warm.drover.submit("finds")
    warm.scale(1, workers=0)
    failed = warm.drover.wait_run(run["id"], "failed")
    assert failed["fail_class"] == "invalid" and "no node has 200000 MHz of cpu; the largest has 64000" in failed["reason"], failed


@pytest.mark.parametrize("command,words", [("/bin/false", "exit code 1"), ("/does/not/exist", "could not be found")])
def test_group_that_cannot_start_says_why(make_warm, command, words):
    warm = make_warm({"WORKER_COMMAND": command, "WORKER_START_LIMIT": "4s"})
    warm.toolbox.add("finds", REPORT)
    run = warm.drover.submit("finds")
    warm.scale(1, workers=0)
    wait.until("the reason", lambda: words in warm.waiting(run["id"]).get("text", ""))
