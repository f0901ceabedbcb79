"""The disk that holds the ledger is full for a while. Needs root, for a file system of its own."""

import os
import subprocess

import pytest

from alone import Dispatcher, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: a full disk (mounting a tmpfs needs root)")


@pytest.fixture
def small(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "drover-test", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_nothing_acknowledged_is_lost_and_work_resumes(tmp_path, small):
    d = Dispatcher(tmp_path)
    target = d.upload()
    ballast = small / "ballast"
    with open(ballast, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"\0" * 4096)
        except OSError:
            pass
    acknowledged, refused = [], None
    for _ in range(3000):
        a = d.call("POST", "/v1/runs", d.submission(target))
        if a.status != 201:
            refused = a
            break
        acknowledged.append(a.json["run"]["id"])
    assert refused is not None and refused.status == 503 and refused.headers["Retry-After"], refused
    error = refused.json["error"]
    assert error["code"] == "retry" and error["message"]
    assert error["hint"], error
    a = d.call("GET", "/v1/agent/health")
    assert a.status == 503 and a.json["status"] == "degraded" and "full" in a.json["components"]["ledger"]
    assert d.call("GET", "/v1/runs?limit=1").status == 200, "reading goes on"
    ballast.unlink()
    wait_for(lambda: d.call("GET", "/v1/agent/health").status == 200)
    after = d.submit(target)["id"]
    d.kill()
    d.start()
    known, token = set(), ""
    while token is not None:
        page = d.call("GET", "/v1/runs?limit=1000" + (f"&next_token={token}" if token else "")).json
        known |= {r["id"] for r in page["runs"]}
        token = page.get("next_token")
    assert set(acknowledged) | {after} == known, "what was refused is not there either"
    d.register()
    assert d.report(d.take()).json == {"state": "completed"}
    assert d.stop() == 0
