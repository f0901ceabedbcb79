"""100,000 queued runs: Nomad is as calm as with ten, submitting costs the same, and who is urgent comes first.

DEEP_RUNS: how many (default 100000).
"""

import json
import os
import socket
import statistics
import threading
import time

import pytest

from conftest import QUICK
from rig import Drover, wait
from rig.toolbox import REPORT

MANY = int(os.environ.get("DEEP_RUNS", "100000"))
CONNECTIONS = 12
WINDOW = 4
LOOKED_AT = MANY // 20  # the first and the last so many submissions are compared


class Submitter(threading.Thread):
    """Submits the same run again and again on a connection of its own; `took`: [(when, seconds)]."""

    def __init__(self, drover, body, number):
        super().__init__(daemon=True)
        head = f"POST /v1/runs HTTP/1.1\r\nHost: {drover.address}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.request, self.number = head.encode() + body, number
        self.wire = socket.create_connection(("127.0.0.1", drover.ports["http"]), timeout=60)
        self.took, self.error = [], None

    def answer(self):
        text = b""
        while b"\r\n\r\n" not in text:
            text += self.more()
        head, _, body = text.partition(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        while len(body) < length:
            body += self.more()
        return int(head.split()[1]), body

    def more(self):
        data = self.wire.recv(65536)
        if not data:
            raise ConnectionError("the dispatcher hung up")
        return data

    def run(self):
        try:
            for _ in range(self.number):
                began = time.monotonic()
                self.wire.sendall(self.request)
                status, body = self.answer()
                assert status in (200, 201), (status, body)
                self.took.append((began, time.monotonic() - began))
        except (OSError, AssertionError) as error:
            self.error = error
        finally:
            self.wire.close()


def live_children(drover):
    """Children that Nomad has not seen the end of."""
    return sum(job["ParentID"] != "" and job["Status"] != "dead" for job in drover.rig.nomad.jobs(namespace=drover.namespace))


def queued(drover):
    return sum(row["queued"] for row in drover.get("/v1/queue")["verticals"])


@pytest.mark.timeout(900)
def test_hundred_thousand_queued_runs(rig, toolbox):
    toolbox.vertical(capacity="job", window=WINDOW)
    toolbox.add("short", f"sleep 0.2; {REPORT}")
    drover = Drover(rig, toolbox, {**QUICK, "LEASE_TTL": "60s", "QUEUE_MAX": str(2 * MANY), "LOG_LEVEL": "info"}).start()
    try:
        drover.wait_workflow("short")
        target = drover.upload({"a.txt": "planted\n"})
        body = json.dumps({"workflow": "short", "target": {"id": target["id"], "name": "t", "kind": "tree"}}).encode()
        submitters = [Submitter(drover, body, MANY // CONNECTIONS + 1) for _ in range(CONNECTIONS)]
        for one in submitters:
            one.start()
        most = 0
        while any(one.is_alive() for one in submitters):
            most = max(most, live_children(drover))
            submitters[0].join(0.2)
        assert not [one.error for one in submitters if one.error]
        took = [seconds for _, seconds in sorted(moment for one in submitters for moment in one.took)]
        assert len(took) >= MANY and queued(drover) > MANY * 0.9
        first, last = statistics.median(took[:LOOKED_AT]), statistics.median(took[-LOOKED_AT:])
        print(f"{len(took)} accepted; median {first * 1e3:.2f} ms at first, {last * 1e3:.2f} ms at last; at most {most} children")
        assert last < 3 * first, f"submitting slows down: {first * 1e3:.2f} ms, then {last * 1e3:.2f} ms"
        began = time.monotonic()
        urgent = drover.submit("short", target, priority=100)["id"]
        run = drover.wait_run(urgent, "completed", timeout_s=60)
        print(f"the urgent one ended after {time.monotonic() - began:.1f} s")
        assert run["attempt"] == 1
        # It goes on, inside the window, and explains itself.
        done = wait.until("more to be done", lambda: [r for r in drover.get("/v1/runs", state="completed", limit=100)["runs"]][20:], 60)
        assert done and 0 < most <= WINDOW and live_children(drover) <= WINDOW
        waits = drover.get("/v1/runs", state="queued", limit=1)["runs"][0]["id"]
        assert drover.get(f"/v1/run/{waits}/explain")["explain"]["waiting"]["position"] > 1
        before = queued(drover)
        drover.kill9()
        drover.start()
        assert before - MANY // 100 < queued(drover) <= before
    finally:
        drover.close()
