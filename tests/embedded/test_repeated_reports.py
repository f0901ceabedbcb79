"""A report is answered alike however often it comes, and whatever happened to the dispatcher in between."""
import pytest

from alone import Dispatcher, wait_for


@pytest.fixture
def d(tmp_path):
    dispatcher = Dispatcher(tmp_path)
    yield dispatcher
    if dispatcher.process.poll() is None:
        assert dispatcher.stop() == 0, (tmp_path / "log").read_text()


def restart(d):
    d.kill()
    d.start()
    d.register()


@pytest.mark.parametrize("outcome, state", [("completed", "completed"), ("failed", "failed"), ("timed_out", "timed_out"),
                                            ("handed_back", "queued")])
def test_a_repeated_report_survives_a_restart(d, outcome, state):
    d.submit()
    d.register()
    lease = d.take()
    assert d.report(lease, outcome).json == {"state": state}
    for _ in range(2):
        restart(d)
        answer = d.report(lease, outcome)
        assert (answer.status, answer.json) == (200, {"state": state})


def test_a_hand_back_is_known_while_the_next_attempt_runs(d):
    run = d.submit()
    d.register()
    first = d.take()
    d.report(first, "handed_back")
    second = d.take()
    for _ in range(2):
        assert d.report(first, "handed_back").json == {"state": "running"}
        assert d.run(run["id"])["attempt"] == 2
        restart(d)
    assert d.report(second).json == {"state": "completed"}
    assert d.report(first, "completed").status == 409, "what came last is what was accepted"


def test_a_canceled_lease_that_nobody_reported_was_not_accepted(d):
    run = d.submit()
    d.register()
    lease = d.take()
    d.call("POST", f"/v1/run/{run['id']}/cancel")
    d.call("POST", "/v1/worker/leave", {"worker": "w1"})
    wait_for(lambda: d.run(run["id"])["state"] == "canceled")
    restart(d)
    assert d.report(lease).status == 409
