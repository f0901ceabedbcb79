"""Who may read what the autoscaler tells. Neither Nomad nor a dispatcher is there: it says so, and serves all the same."""

import re
import subprocess
import urllib.error
import urllib.request

import pytest

from alone import BIN, wait_for

NOWHERE = "http://127.0.0.1:1"
SERVING = re.compile(r"serving http://[^\s\"]*:(\d+)")


@pytest.fixture(name="begin")
def begin_fixture(tmp_path):
    """begin(listen, **settings): an autoscaler; the port that it serves."""
    started = []

    def begin(listen, **settings):
        log = tmp_path / f"log{len(started)}"
        env = {"NOMAD_ADDR": NOWHERE, "DROVER_ADDR": NOWHERE, "AUTOSCALE_LISTEN": listen, "AUTOSCALE_LOCK": "-", **settings}
        with open(log, "wb") as file:
            started.append(subprocess.Popen([BIN / "drover-autoscale"], env=env, stdout=file, stderr=subprocess.STDOUT))
        wait_for(lambda: SERVING.search(log.read_text()))
        return int(SERVING.search(log.read_text())[1])

    yield begin
    for process in started:
        process.terminate()
        assert process.wait(30) == 0


def status(port, path, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        return refusal.code


PRIVATE = ("/metrics", "/v1/decisions")


def test_on_loopback_no_token_is_needed(begin):
    port = begin("127.0.0.1:0")
    assert [status(port, path) for path in PRIVATE] == [200, 200]
    assert status(port, "/v1/agent/health") == 503, "without Nomad it can do nothing"


def test_elsewhere_it_tells_nothing_without_one(begin):
    port = begin("0.0.0.0:0")
    assert [status(port, path) for path in PRIVATE] == [403, 403]
    assert [status(port, path, Authorization="Bearer guessed") for path in PRIVATE] == [403, 403]
    assert status(port, "/v1/agent/health") == 503, "health is for everybody: Consul looks at it"


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:0"])
def test_a_token_is_asked_for_wherever_it_is_set(begin, listen):
    port = begin(listen, AUTOSCALE_TOKEN="the-one")
    for path in PRIVATE:
        assert status(port, path) == 401
        for wrong in ("Bearer the-two", "Bearer the-on", "Bearer the-one-more", "Baerer the-one", "the-one"):
            assert status(port, path, Authorization=wrong) == 401, wrong
        assert status(port, path, Authorization="Bearer the-one") == 200
    assert status(port, "/v1/decisions?limit=0", Authorization="Bearer the-one") == 400
