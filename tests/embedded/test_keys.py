"""Idempotency keys where no new run is taken: what was taken before is still answered."""
import pytest

from alone import Dispatcher


@pytest.fixture
def d(tmp_path):
    dispatcher = Dispatcher(tmp_path, QUEUE_MAX="1")
    yield dispatcher
    if dispatcher.process.poll() is None:
        assert dispatcher.stop() == 0, (tmp_path / "log").read_text()


def submit(d, target, key):
    return d.call("POST", "/v1/runs", {**d.submission(target), "idempotency_key": key})


def test_a_known_key_is_answered_though_the_queue_is_full(d):
    target = d.upload()
    first = submit(d, target, "one")
    assert first.status == 201, first
    refused = submit(d, target, "two")
    assert refused.status == 503 and refused.json["error"]["code"] == "retry"
    for _ in range(2):
        again = submit(d, target, "one")
        assert again.status == 200 and again.json["run"]["id"] == first.json["run"]["id"]


def test_a_known_key_for_something_else_is_a_conflict(d):
    target = d.upload()
    assert submit(d, target, "one").status == 201
    other = d.call("POST", "/v1/runs", {**d.submission(target), "idempotency_key": "one", "priority": 7})
    assert other.status == 409 and "another submission" in other.json["error"]["message"]
