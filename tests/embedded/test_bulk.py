"""Many runs at once: cancelled, queued again, forgotten; and the list of those that were given up."""

import threading

import pytest

from alone import METADATA, Dispatcher, put, wait_for


@pytest.fixture(name="d")
def d_fixture(tmp_path):
    dispatcher = Dispatcher(tmp_path)
    dispatcher.register()
    yield dispatcher
    assert dispatcher.stop() == 0, (tmp_path / "log").read_text()


def post(d, path, **body):
    a = d.call("POST", path, body)
    assert a.status in (200, 201), a.body
    return a.json


def die(d):
    """A run that is given up after its retries; its id. Only handing in an infrastructure failure again and again does that."""
    run = d.submit(labels={"kind": "dead"})["id"]
    while d.run(run)["state"] == "queued":
        d.report(d.take(), "failed", fail_class="infra", reason="disk")
    assert d.run(run)["dead"]
    return run


def test_requeue_makes_a_run_that_asks_for_the_same(d):
    old = die(d)
    assert [r["id"] for r in d.call("GET", "/v1/runs?dead=true").json["runs"]] == [old]
    a = d.call("POST", f"/v1/run/{old}/requeue", {})
    new = a.json["run"]
    assert a.status == 201 and new["id"] != old and new["state"] == "queued" and new["requeued_from"] == old
    was = d.run(old)
    assert not was["dead"] and was["state"] == "failed"
    assert d.call("GET", "/v1/runs?dead=true").json["runs"] == []
    for key in ("workflow", "bundle", "target", "params", "labels", "priority", "timeout_ms", "tenant"):
        assert new.get(key) == was.get(key), key
    again = d.call("POST", f"/v1/run/{old}/requeue", {})
    assert again.status == 200 and again.json["run"]["id"] == new["id"]
    lease = d.take()
    assert lease["run"] == new["id"] and d.report(lease).status == 200
    d.kill()
    d.start()
    again = d.call("POST", f"/v1/run/{old}/requeue", {})
    assert again.status == 200 and again.json["run"]["state"] == "completed"
    assert d.call("POST", f"/v1/run/{new['id']}/requeue", {}).status == 409


def test_requeues_in_the_same_moment_make_one_run(d):
    target = d.upload()
    for _ in range(12):
        run = d.submit(target)["id"]
        d.report(d.take(only=run), "failed", fail_class="tool", reason="broke")
        answers, together = [], threading.Barrier(6)

        def requeue():
            together.wait(20)
            answers.append(d.call("POST", f"/v1/run/{run}/requeue", {}))

        asking = [threading.Thread(target=requeue) for _ in range(6)]
        for one in asking:
            one.start()
        for one in asking:
            one.join()
        assert sorted(a.status for a in answers) == [200] * 5 + [201], [a.body for a in answers]
        new, = {a.json["run"]["id"] for a in answers}
        assert d.call("POST", f"/v1/run/{new}/cancel").status == 200


def test_requeue_tells_of_a_target_that_is_gone(d):
    target = d.upload()
    run = d.submit(target)["id"]
    d.report(d.take(), "failed", fail_class="tool", reason="broke")
    assert d.call("DELETE", f"/v1/target/{target['id']}").status == 200
    a = d.call("POST", f"/v1/run/{run}/requeue", {})
    assert a.status == 404 and "target" in a.json["error"]["message"]


def test_a_run_that_goes_on_is_neither_requeued_nor_purged(d):
    run = d.submit()["id"]
    a = d.call("POST", f"/v1/run/{run}/requeue", {})
    assert a.status == 409 and f"run {run} is queued" in a.json["error"]["message"] and "anew" in a.json["error"]["hint"]
    a = d.call("DELETE", f"/v1/run/{run}")
    assert a.status == 409 and "cancel it first" in a.json["error"]["hint"]
    lease = d.take()
    assert d.call("DELETE", f"/v1/run/{run}").status == 409
    d.report(lease)
    assert d.call("DELETE", f"/v1/run/{run}").status == 200
    assert d.call("GET", f"/v1/run/{run}").status == 404
    assert d.call("DELETE", f"/v1/run/{run}").status == 404
    d.kill()
    d.start()
    assert d.call("GET", f"/v1/run/{run}").status == 404


def test_a_filter_cancels_page_by_page(d):
    target = d.upload()
    keep = d.submit(target, labels={"team": "red"})["id"]
    for _ in range(130):
        d.submit(target, labels={"team": "blue"})
    dry = post(d, "/v1/runs/cancel", label="team=blue", dry_run=True)
    assert (dry["matched"], dry["done"]) == (130, 0)
    token, done = {}, 0
    while True:
        page = post(d, "/v1/runs/cancel", label="team=blue", limit=50, reason="enough", **token)
        assert page["done"] == page["matched"] <= 50 and page["refusals"] == []
        done += page["done"]
        if "next_token" not in page:
            break
        token = {"next_token": page["next_token"]}
    assert done == 130
    canceled = d.call("GET", "/v1/runs?state=canceled&limit=200").json["runs"]
    assert len(canceled) == 130 and all("enough" in r["reason"] for r in canceled)
    assert d.run(keep)["state"] == "queued"
    assert post(d, "/v1/runs/cancel", label="team=blue")["matched"] == 0


def test_pages_of_large_runs_end_early(d):
    """A thousand runs with long parameters at once would be the dispatcher's memory many times over."""
    other = METADATA.replace("1.0.0", "2.0.0").replace("    level:", "    text: {type: string}\n    level:")
    (d.toolbox / "workflows" / "echo" / "metadata.yaml").write_text(other)
    wait_for(lambda: d.call("GET", "/v1/workflow/echo").json["workflow"]["version"] == "2.0.0")
    target = d.upload()
    runs = [d.submit(target, params={"text": f"{n}" + "x" * 120000})["id"] for n in range(90)]
    seen, pages, token = [], 0, ""
    while token is not None:
        page = d.call("GET", f"/v1/runs?limit=1000&next_token={token}").json
        seen += [r["id"] for r in page["runs"]]
        pages, token = pages + 1, page.get("next_token")
    assert seen == runs[::-1] and pages == 2
    assert post(d, "/v1/runs/cancel", workflow="echo")["done"] == 90
    first = post(d, "/v1/runs/requeue", workflow="echo")
    assert first["done"] == first["matched"] < 90 and "next_token" in first
    rest = post(d, "/v1/runs/requeue", workflow="echo", next_token=first["next_token"])
    assert first["done"] + rest["done"] == 90 and "next_token" not in rest
    assert d.call("GET", "/v1/queue").json["verticals"][0]["queued"] == 90


def test_a_running_one_is_cancelled_by_its_worker(d):
    run = d.submit()["id"]
    lease = d.take()
    assert post(d, "/v1/runs/cancel", workflow="echo")["done"] == 1
    assert d.run(run)["state"] == "canceling"
    assert d.beat([d.held(lease)]).json["cancel"] != []
    d.report(lease, "canceled")
    assert d.run(run)["state"] == "canceled"


def test_requeue_and_purge_by_filter(d):
    target = d.upload()
    for i in range(6):
        d.submit(target, labels={"n": str(i)})
        d.report(d.take(), "failed" if i < 4 else "completed", fail_class="tool" if i < 4 else "", reason="broke" if i < 4 else "")
    first = post(d, "/v1/runs/requeue", target=target["id"])
    assert (first["matched"], first["done"]) == (4, 4)
    queued = d.call("GET", "/v1/runs?state=queued").json["runs"]
    assert sorted(r["labels"]["n"] for r in queued) == ["0", "1", "2", "3"]
    assert post(d, "/v1/runs/requeue", target=target["id"])["done"] == 4
    assert len(d.call("GET", "/v1/runs?state=queued").json["runs"]) == 4
    purged = post(d, "/v1/runs/purge", state="failed,queued")
    assert purged["done"] == 4
    assert {r["state"] for r in d.call("GET", "/v1/runs").json["runs"]} == {"queued", "completed"}


def test_a_purged_run_s_history_goes_with_it(d):
    run = d.submit(idempotency_key="again")["id"]
    d.report(d.take())
    put(d, "results", f"{run}/1/results.json", b"{}")
    assert d.call("DELETE", f"/v1/run/{run}").status == 200
    # Its key is free again, and its id too: nothing of the old one may show in the new.
    a = d.call("POST", "/v1/runs", d.submission(d.upload(), idempotency_key="again"))
    assert a.status == 201 and a.json["run"]["id"] != run


@pytest.mark.parametrize("body", [{}, {"limit": 10}, {"dead": "false"}, {"state": "nope"}, {"label": "x"}, {"since": "soon"},
                                  {"state": "queued", "limit": 1001}, {"state": "queued", "next_token": "x"}, {"tool": "y"}])
@pytest.mark.parametrize("action", ["cancel", "requeue", "purge"])
def test_a_filter_that_cannot_be_meant_is_refused(d, action, body):
    d.submit()
    a = d.call("POST", f"/v1/runs/{action}", body)
    assert a.status == 400 and a.json["error"]["message"]
    assert d.call("GET", "/v1/runs?state=queued").json["runs"] != []
