"""Worker groups that follow the queue, on a real Nomad: nothing that runs is ever taken away."""

import contextlib
import datetime
import os
import signal

import pytest
from rig import wait
from rig.autoscale import Autoscaler, count, live, scaling_events, set_count, tune
from rig.drover import Drover
from rig.toolbox import REPORT, VERTICAL
from stories.steps import HOLD, go_on, reached

JOB = f"drover-workers-{VERTICAL}"
SLOTS = 2
MOST = 4
POLICY = {"min": 0, "max": MOST, "drain": "5s", "stabilization_down": "2s", "foreign_hold": "5s", "evaluation_interval": "1s"}
LOCK_S = 10  # the shortest that Nomad takes


@pytest.fixture(name="warm")
def warm_fixture(rig, toolbox):
    """A dispatcher whose vertical has warm workers only, from none to four with two slots each, and a policy in a hurry."""
    toolbox.vertical(capacity="warm", slots=SLOTS, warm=POLICY)
    toolbox.add("short", f"sleep 0.3; {REPORT}")
    toolbox.add("held", HOLD + REPORT)
    drover = Drover(rig, toolbox).start()
    wait.until("the worker group to be registered", lambda: count(rig.nomad, drover.namespace) is not None)
    yield drover
    rig.heal()
    drover.close()


@pytest.fixture(name="scalers")
def scalers_fixture():
    """Those of the test, stopped at its end."""
    started = []
    yield started
    for one in started:
        if one.alive():
            one.stop()


def start(scalers, drover, **settings):
    scaler = Autoscaler(drover, **settings)
    scalers.append(scaler)
    scaler.start()
    return scaler


def submit(drover, workflow, number):
    target = drover.upload({"a.txt": "x\n"})
    return [drover.submit(workflow, target)["id"] for _ in range(number)]


def wait_count(drover, what, wanted, timeout_s=90):
    wait.until(what, lambda: wanted(count(drover.rig.nomad, drover.namespace)), timeout_s)


def assert_each_ran_once(drover, runs):
    """Completed in the first attempt: none was killed, handed back or retried."""
    for run_id in runs:
        run = drover.wait_run(run_id, "completed", timeout_s=300)
        assert run["attempt"] == 1, run


def holding(drover, number):
    """Runs that stay until they are let go, each on a slot: {alloc id: [runs]}."""
    runs = submit(drover, "held", number)
    where = {}
    for run_id in runs:
        alloc = reached(drover, run_id)["alloc_id"]
        where.setdefault(alloc, []).append(run_id)
    return where


def by_index(drover):
    """Ids of the live allocations, lowest index first."""
    allocs = live(drover.rig.nomad, drover.namespace)
    return [alloc["ID"] for alloc in sorted(allocs, key=lambda alloc: int(alloc["Name"].rpartition("[")[2][:-1]))]


def full_group(drover):
    """Every slot of the largest group holds a run; allocations by index, and runs by allocation."""
    where = holding(drover, SLOTS * MOST)
    order = by_index(drover)
    assert len(order) == MOST and set(order) == set(where)
    return order, where


def draining(scaler):
    """The look at the group in which a scale-in waits for workers to finish, or None."""
    group = scaler.group()
    return group if group and group["result"] == "draining" else None


@pytest.mark.timeout(600)
def test_burst_of_500_from_nothing_to_all_and_back(warm, rig, toolbox, scalers):
    toolbox.add("instant", REPORT)
    assert count(rig.nomad, warm.namespace) == 0
    # All of them are there at its first look: one worker could be through with them before a second one.
    runs = submit(warm, "instant", 500)
    scaler = start(scalers, warm)
    wait_count(warm, "all workers to be wanted", lambda n: n == MOST)
    assert_each_ran_once(warm, runs)
    wait_count(warm, "the group to be empty again", lambda n: n == 0)
    events = scaling_events(rig.nomad, warm.namespace)
    told = [event for event in events if event["Meta"] and event["Meta"].get("drover_autoscale")]
    assert told and all("ready" in event["Message"] and "wanted" in event["Meta"] for event in told)
    assert scaler.metric("drover_autoscale_other_stops_total") == 0
    assert scaler.decisions(result="scaled", action="up")
    scaler.wait_decision("the last step to be told", result="scaled", action="down", to=0)


def test_busy_workers_stay_and_idle_ones_above_them_go(warm, scalers):
    scaler = start(scalers, warm)
    order, where = full_group(warm)
    # Work is left on the second lowest and, later, on none: all above it go, it stays with what it does.
    for alloc in (order[0], *order[2:]):
        for run_id in where[alloc]:
            go_on(warm, run_id)
    wait_count(warm, "the idle ones above to go", lambda n: n == 2)
    wait.until("the idle ones to be stopped", lambda: len(by_index(warm)) == 2)
    wait.until("what is left to be kept", lambda: scaler.group()["hold"] in ("scale_in", "steady"))
    assert by_index(warm) == order[:2]
    for run_id in where[order[1]]:
        assert warm.run(run_id)["state"] == "running"
        go_on(warm, run_id)
    wait_count(warm, "the rest to go", lambda n: n == 0)
    assert_each_ran_once(warm, [run_id for runs in where.values() for run_id in runs])


def test_runs_that_fill_a_worker_before_its_slots_do(warm, toolbox, scalers):
    """Workers have cpu for one of these, though they have two slots."""
    toolbox.add("wide", HOLD + REPORT, resources={"cpu": "1000m"})
    start(scalers, warm)
    runs = submit(warm, "wide", MOST - 1)
    assert len({reached(warm, run_id)["alloc_id"] for run_id in runs}) == MOST - 1
    for run_id in runs:
        go_on(warm, run_id)
    assert_each_ran_once(warm, runs)


def test_drain_is_taken_back_when_load_returns(warm, scalers):
    # Marks that would outlive the test: only taking them back lets the workers work again.
    scaler = start(scalers, warm, AUTOSCALE_DRAIN_TTL="10m")
    order, where = full_group(warm)
    top = where[order[-1]]
    for alloc in order[:-1]:
        for run_id in where[alloc]:
            go_on(warm, run_id)
    go_on(warm, top[0])
    # The highest index is busy, so none below it can go: all that shall go are kept free.
    wait.until("the scale-in to wait for the highest", lambda: draining(scaler), 60)
    assert len(by_index(warm)) == MOST
    more = holding(warm, SLOTS * MOST - 1)
    assert set(more) == set(order)
    assert warm.run(top[1])["state"] == "running"
    for runs in (*more.values(), [top[1]]):
        for run_id in runs:
            go_on(warm, run_id)
    assert_each_ran_once(warm, [run_id for part in (where, more) for runs in part.values() for run_id in runs])
    wait_count(warm, "all to go", lambda n: n == 0)


def test_scale_in_under_a_trickle(warm, rig, scalers):
    runs = submit(warm, "short", 100)
    scaler = start(scalers, warm)
    wait_count(warm, "the group to grow", lambda n: n == MOST)
    target = warm.upload({"a.txt": "x\n"})

    def one_more():
        """There is never a moment without a run on the way."""
        runs.append(warm.submit("short", target)["id"])
        warm.wait_run(runs[-1], "completed")
        return count(rig.nomad, warm.namespace) == 1

    wait.until("the group to shrink to what the trickle needs", one_more, 240)
    assert_each_ran_once(warm, runs)
    assert scaler.metric("drover_autoscale_other_stops_total") == 0


def test_second_one_takes_over_when_the_first_is_killed_or_hangs(warm, rig, scalers):
    first = start(scalers, warm, AUTOSCALE_LOCK_TTL=f"{LOCK_S}s")
    wait.until("the first to lead", first.leads)
    second = start(scalers, warm, AUTOSCALE_LOCK_TTL=f"{LOCK_S}s")
    assert not second.leads()
    first.kill9()
    wait.until("the second to lead", second.leads, 120)
    assert_each_ran_once(warm, submit(warm, "short", 10))
    third = start(scalers, warm, AUTOSCALE_LOCK_TTL=f"{3 * LOCK_S}s")
    # One that hangs longer than its lock holds is not leader any more the moment it goes on.
    os.kill(second.process.pid, signal.SIGSTOP)
    try:
        wait.until("the third to lead", third.leads, 120)
    finally:
        os.kill(second.process.pid, signal.SIGCONT)
    assert not second.leads()
    # One that ends gives the lock back: nobody waits for it to run out, which is after twice its time.
    third.stop()
    wait.until("the second to lead again", second.leads, 5 * LOCK_S)


def test_nomad_restarts_in_between(warm, rig, scalers):
    scaler = start(scalers, warm)
    where = holding(warm, 2)
    rig.nomad.kill9()
    rig.nomad.start()
    for runs in where.values():
        for run_id in runs:
            go_on(warm, run_id)
    more = holding(warm, 2 * SLOTS)
    assert len(more) > 1 and count(rig.nomad, warm.namespace) > 1
    for runs in more.values():
        for run_id in runs:
            go_on(warm, run_id)
    assert_each_ran_once(warm, [run_id for held in (where, more) for runs in held.values() for run_id in runs])
    wait_count(warm, "the group to be empty again", lambda n: n == 0)
    assert scaler.leads()


@pytest.mark.parametrize("who", ["autoscaler", "dispatcher"])
def test_killed_in_the_middle_of_a_scale_in(warm, scalers, who):
    settings = {"AUTOSCALE_DRAIN_TTL": "2s", "AUTOSCALE_LOCK": "-"}
    scaler = start(scalers, warm, **settings)
    order, where = full_group(warm)
    top = where[order[-1]]
    for alloc in order[:-1]:
        for run_id in where[alloc]:
            go_on(warm, run_id)
    wait.until("the scale-in to wait for the highest", lambda: draining(scaler), 60)
    if who == "autoscaler":
        scaler.kill9()
        # What it kept free takes work again, though nobody tells.
        assert_each_ran_once(warm, submit(warm, "short", 12))
        scaler.start()
    else:
        warm.kill9()
        warm.start()
        wait.until("the scale-in to go on", lambda: draining(scaler), 60)
    assert len(by_index(warm)) == MOST
    for run_id in top:
        assert warm.run(run_id)["state"] == "running"
        go_on(warm, run_id)
    wait_count(warm, "all to go", lambda n: n == 0)
    assert_each_ran_once(warm, [run_id for runs in where.values() for run_id in runs])


def marks(drover):
    """{alloc id: mark} of the registered workers."""
    shown = drover.get("/v1/scale")["verticals"]
    return {one["alloc"]: one["drain"] for vertical in shown for one in vertical["workers"]}


def waits_for(drover, run_id):
    waiting = drover.get(f"/v1/run/{run_id}/explain")["explain"]["waiting"]
    return waiting and waiting["code"]


def test_condemned_ones_get_nothing_from_the_next_dispatcher(warm, rig, scalers):
    """The autoscaler dies with its scale call on the way, the dispatcher is killed, and the call arrives after the next one has begun."""
    tune(rig.nomad, warm.namespace, stabilization_down="5s")
    scaler = start(scalers, warm, AUTOSCALE_LOCK="-")
    order, where = full_group(warm)
    scaler.kill9()
    for runs in where.values():
        for run_id in runs:
            go_on(warm, run_id)
    assert_each_ran_once(warm, [run_id for held in where.values() for run_id in held])
    scaler = start(scalers, warm, AUTOSCALE_LOCK="-", DROVER_FAULT="round.condemned")
    wait.until("the autoscaler to die between condemning and scaling", lambda: not scaler.alive(), 60)
    assert marks(warm) == dict.fromkeys(order, "condemned")
    warm.kill9()
    warm.start()
    runs = submit(warm, "short", 2 * SLOTS)
    wait.until("all workers to be back", lambda: len(marks(warm)) == MOST)
    assert marks(warm) == dict.fromkeys(order, "condemned")
    for run_id in runs:
        wait.until("it to wait for them", lambda run_id=run_id: waits_for(warm, run_id) == "drain")
    set_count(rig.nomad, warm.namespace, 0)
    # The next one finds another version of the job: whoever comes to the same indexes may work at once.
    start(scalers, warm, AUTOSCALE_LOCK="-")
    assert_each_ran_once(warm, runs)
    wait_count(warm, "all to go", lambda n: n == 0)


def test_allocations_that_are_replaced_in_the_middle_of_a_scale_in(warm, rig, scalers):
    """An operator stops one that is kept free: Nomad starts another with its index, and the scale-in begins anew with that."""
    scaler = start(scalers, warm)
    order, where = full_group(warm)
    for alloc in order[:-1]:
        for run_id in where[alloc]:
            go_on(warm, run_id)
    wait.until("the scale-in to wait for the highest", lambda: draining(scaler), 60)
    rig.nomad.stop_alloc(order[1])
    wait.until("another in its place", lambda: len(by_index(warm)) == MOST and by_index(warm)[1] != order[1], 60)
    assert by_index(warm)[0] == order[0] and by_index(warm)[-1] == order[-1]
    for run_id in where[order[-1]]:
        assert warm.run(run_id)["state"] == "running"
        go_on(warm, run_id)
    wait_count(warm, "all to go", lambda n: n == 0)
    assert_each_ran_once(warm, [run_id for runs in where.values() for run_id in runs])


def change(drover, **group):
    """Change the group's job as an operator may: keys of the task group, as Nomad's API has them."""
    job = drover.rig.nomad.job(JOB, drover.namespace)
    job["TaskGroups"][0] |= group
    body = {"Job": job, "PreserveCounts": True}
    drover.rig.nomad.call("POST", f"/v1/jobs?namespace={drover.namespace}", json=body).expect(200)


SECOND = 1_000_000_000
CANARY = {
    "Canary": 1, "MaxParallel": 4, "HealthCheck": "task_states", "MinHealthyTime": SECOND // 10, "HealthyDeadline": 60 * SECOND,
    "ProgressDeadline": 120 * SECOND, "AutoRevert": False, "AutoPromote": False, "Stagger": SECOND,
}  # fmt: skip


def test_nothing_is_scaled_while_a_deployment_runs(warm, rig, scalers):
    """An operator's job update with a canary, busy workers beside it: all stay until it is promoted, whatever the queue says."""
    scaler = start(scalers, warm)
    order, where = full_group(warm)
    tasks = rig.nomad.job(JOB, warm.namespace)["TaskGroups"][0]["Tasks"]
    tasks[0]["Env"]["STORY"] = "changed"
    change(warm, Update=CANARY, Tasks=tasks)
    wait.until("the canary beside them", lambda: len(live(rig.nomad, warm.namespace)) == MOST + 1)
    scaler.wait_decision("the deployment to hold it", hold="deployment")
    for alloc in order:
        for run_id in where[alloc]:
            assert warm.run(run_id)["state"] == "running"
            go_on(warm, run_id)
    assert_each_ran_once(warm, [run_id for runs in where.values() for run_id in runs])
    # Nothing is left to do for any of them: without the deployment they would go.
    idle = wait.until("a look at an idle group", lambda: (g := scaler.group())["running"] == 0 and g["ready"] == 0 and g)
    assert idle["hold"] == "deployment", idle
    assert count(rig.nomad, warm.namespace) == MOST and not scaler.decisions(result="scaled", action="down")
    assert set(order) <= {alloc["ID"] for alloc in live(rig.nomad, warm.namespace)}
    deployment = rig.nomad.get(f"/v1/job/{JOB}/deployment", namespace=warm.namespace)["ID"]
    wait.until("the canary to be healthy", lambda: promoted(rig.nomad, warm.namespace, deployment), 60)
    wait_count(warm, "the group to be scaled again", lambda n: n == 0)
    assert scaler.metric("drover_autoscale_other_stops_total") == 0


def promoted(nomad, namespace, deployment):
    body = {"DeploymentID": deployment, "All": True}
    return nomad.call("PUT", f"/v1/deployment/promote/{deployment}?namespace={namespace}", json=body).status == 200


def test_gap_in_the_indexes(warm, rig, scalers):
    """One allocation has failed and is not replaced: those that go are exactly those that were kept free, and others never."""
    tasks = rig.nomad.job(JOB, warm.namespace)["TaskGroups"][0]["Tasks"]
    tasks[0]["RestartPolicy"] |= {"Attempts": 0, "Mode": "fail"}
    change(warm, Tasks=tasks, ReschedulePolicy={"Attempts": 0, "Interval": 0, "Unlimited": False})
    scaler = start(scalers, warm, AUTOSCALE_DRAIN_PATIENCE="3s")
    order, where = full_group(warm)
    for run_id in where[order[1]]:
        go_on(warm, run_id)
        warm.wait_run(run_id, "completed")
    os.kill(next(c.task_pid(order[1]) for c in rig.clients), signal.SIGKILL)
    wait.until("the second to have failed", lambda: by_index(warm) == [order[0], order[2], order[3]])
    for run_id in where[order[3]]:
        go_on(warm, run_id)
    wait_count(warm, "the highest to go", lambda n: n == MOST - 1)
    wait.until("it to be stopped", lambda: len(by_index(warm)) == 2)
    assert by_index(warm) == [order[0], order[2]]
    for run_id in where[order[2]]:
        assert warm.run(run_id)["state"] == "running"
        go_on(warm, run_id)
    # Of the two that are left Nomad would keep the failed one, and stop the lowest, which is at work.
    wait_count(warm, "those above the failed one to go", lambda n: n == 2)
    # Before, it may wait for Nomad to carry out the last step.
    said = lambda: [one["wanted"] for one in scaler.decisions(hold="scale_in", **{"from": 2}) if "has failed" in one["note"]]
    assert wait.until("it to say why it goes no further", said)[0] == 1
    wait.until("the other to be stopped", lambda: len(by_index(warm)) == 1)
    assert by_index(warm) == [order[0]]
    for run_id in where[order[0]]:
        assert warm.run(run_id)["state"] == "running"
        go_on(warm, run_id)
    wait_count(warm, "all to go", lambda n: n == 0)
    assert_each_ran_once(warm, [run_id for runs in where.values() for run_id in runs])
    assert scaler.metric("drover_autoscale_other_stops_total") == 0


def test_policy_is_what_the_vertical_says(warm, rig, toolbox, scalers):
    """A key of vertical.yaml, changed while all runs, is what the autoscaler goes by next."""
    scaler = start(scalers, warm)
    toolbox.vertical(warm={**POLICY, "max_scale_up": 1, "cooldown_on_scale_up": "8s"})

    def strategy():
        policy = rig.nomad.job(JOB, warm.namespace)["TaskGroups"][0]["Scaling"]["Policy"]
        return policy["check"][0]["queue"][0]["strategy"][0]["drover"][0]

    wait.until("the policy in Nomad", lambda: strategy()["max_scale_up"] == 1)
    where = holding(warm, SLOTS * 2)
    ups = [(one["from"], one["to"]) for one in scaler.decisions(result="scaled", action="up")]
    assert ups[-2:] == [(1, 2), (0, 1)] and scaler.decisions(hold="cooldown")
    for run_id in [run_id for runs in where.values() for run_id in runs]:
        go_on(warm, run_id)
        warm.wait_run(run_id, "completed")


HOLD_S = 8


def seconds_between(earlier, later):
    """Between two decisions, by the autoscaler's clock."""
    at = [datetime.datetime.fromisoformat(one["at"].replace("Z", "+00:00")) for one in (earlier, later)]
    return (at[1] - at[0]).total_seconds()


def test_operators_hand_is_respected_for_a_while(warm, rig, scalers):
    tune(rig.nomad, warm.namespace, foreign_hold=f"{HOLD_S}s")
    scaler = start(scalers, warm)
    wait.until("the group to be looked at", scaler.group)
    set_count(rig.nomad, warm.namespace, 3)
    told = scaler.wait_decision("the change to be noticed", hold="foreign_change")
    assert told["from"] == 3 and "someone else" in told["reason"]
    wait_count(warm, "the hold to end", lambda n: n == 0)
    scaler.wait_decision("the last step to be told", result="scaled", action="down", to=0)
    noticed = scaler.decisions(hold="foreign_change")[-1]
    first = scaler.decisions(result="scaled", action="down")[-1]
    # Without the hold the next look would scale, a second later. Half of it: a decision is dated when its round is over.
    assert first["from"] == 3 and seconds_between(noticed, first) > HOLD_S / 2, (noticed, first)


def test_dry_run_tells_and_does_nothing(warm, rig, scalers):
    scaler = start(scalers, warm, AUTOSCALE_DRY_RUN="true")
    submit(warm, "short", 10)
    told = scaler.wait_decision("a proposal", result="dry_run")
    assert told["from"] == 0 and told["to"] > 0 and told["ready"] > 0
    assert count(rig.nomad, warm.namespace) == 0
    assert not scaling_events(rig.nomad, warm.namespace)


def test_broken_policy_is_told_and_holds_the_group(warm, rig, scalers):
    tune(rig.nomad, warm.namespace, cooldwn="30s")
    scaler = start(scalers, warm)
    told = scaler.wait_decision("the policy to be refused", result="broken_policy")
    assert "cooldwn" in told["reason"]
    event = wait.until("an event in Nomad", lambda: scaling_events(rig.nomad, warm.namespace))[0]
    assert event["Error"] and "cooldwn" in event["Message"]
    run = submit(warm, "short", 1)
    tune(rig.nomad, warm.namespace, cooldwn=None)
    assert_each_ran_once(warm, run)
    assert len([one for one in scaling_events(rig.nomad, warm.namespace) if one["Error"]]) == 1


def test_starts_that_fail_pause_scaling_up(warm, rig, scalers):
    tune(rig.nomad, warm.namespace, start_pause="20s")
    job = rig.nomad.job(JOB, warm.namespace)
    job["TaskGroups"][0]["Tasks"][0]["Config"]["command"] = "/nonexistent/worker"
    job["TaskGroups"][0]["RestartPolicy"] |= {"Attempts": 10, "Delay": 1_000_000_000, "Mode": "delay"}
    rig.nomad.call("POST", f"/v1/jobs?namespace={warm.namespace}", json={"Job": job, "PreserveCounts": True}).expect(200)
    scaler = start(scalers, warm)
    submit(warm, "short", 1)
    wait_count(warm, "a start to be tried", lambda n: n == 1)
    wait.until("it to fail again and again", lambda: scaler.group()["failed_starts"] >= 3, 90)
    submit(warm, "short", 30)
    told = scaler.wait_decision("scaling up to pause", hold="failed_starts", timeout_s=90)
    assert told["failed_starts"] >= 3 and "paused" in told["reason"]
    assert count(rig.nomad, warm.namespace) == 1


def test_no_scale_in_while_a_node_is_drained(warm, rig, scalers):
    other = rig.add_client()
    with contextlib.ExitStack() as ending:
        ending.callback(rig.remove_client, other)
        scaler = start(scalers, warm)
        order, where = full_group(warm)
        nodes = {alloc["ID"]: alloc["NodeID"] for alloc in live(rig.nomad, warm.namespace)}
        client = next(one for one in rig.clients if one.node()["ID"] in nodes.values())
        ending.callback(client.eligible)
        client.drain(600)
        for alloc in order:
            for run_id in where[alloc]:
                with contextlib.suppress(LookupError):
                    go_on(warm, run_id)
        said = lambda: [one["note"] for one in scaler.decisions(hold="scale_in")]
        wait.until("the drain to be noticed", lambda: any("drained" in note or "another node" in note for note in said()))
