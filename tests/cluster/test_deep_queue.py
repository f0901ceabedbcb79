"""100,000 queued runs: Nomad is as calm as with ten, submitting costs the same, and who is urgent comes first.

DEEP_RUNS: how many (default 100000).
"""

import json
import os
import socket
import threading
import time

import pytest

from conftest import QUICK
from rig import Drover, wait
from rig.toolbox import REPORT

MANY = int(os.environ.get("DEEP_RUNS", "100000"))
CONNECTIONS = 12
WINDOW = 4
LOOKED_AT = MANY // 10  # the first and the last so many submissions are compared


class Submitter(threading.Thread):
    """Submits the same run again and again on a connection of its own; `accepted`: how many by now."""

    def __init__(self, drover, body, number):
        super().__init__(daemon=True)
        head = f"POST /v1/runs HTTP/1.1\r\nHost: {drover.address}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.request, self.number = head.encode() + body, number
        self.wire = socket.create_connection(("127.0.0.1", drover.ports["http"]), timeout=60)
        self.accepted, self.error = 0, None

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
                self.wire.sendall(self.request)
                status, body = self.answer()
                assert status in (200, 201), (status, body)
                self.accepted += 1
        except (OSError, AssertionError) as error:
            self.error = error
        finally:
            self.wire.close()


def live_children(drover):
    """Children that Nomad has not seen the end of."""
    return sum(job["ParentID"] != "" and job["Status"] != "dead" for job in drover.rig.nomad.jobs(namespace=drover.namespace))


def processor_s(drover):
    """Processor time that the dispatcher has taken."""
    with open(f"/proc/{drover.process.pid}/stat", encoding="utf-8") as file:
        user, system = file.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def cost(samples, first, last):
    """Processor seconds for one submission between two numbers of them; samples: [(number, processor seconds)]."""
    begin = [sample for sample in samples if sample[0] <= first][-1]
    end = next(sample for sample in samples if sample[0] >= last)
    return (end[1] - begin[1]) / (end[0] - begin[0])


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
        begin = (0, processor_s(drover))
        for one in submitters:
            one.start()
        sample = lambda: (sum(one.accepted for one in submitters), processor_s(drover))
        most, samples = 0, [begin]
        while any(one.is_alive() for one in submitters):
            samples.append(sample())
            most = max(most, live_children(drover))
            submitters[0].join(0.05)
        samples.append(sample())
        accepted = samples[-1][0]
        assert not [one.error for one in submitters if one.error]
        assert accepted >= MANY and queued(drover) > MANY * 0.9
        # Processor time: what else the machine does meanwhile is no part of it.
        first, last = cost(samples, 0, LOOKED_AT), cost(samples, accepted - LOOKED_AT, accepted)
        print(f"{accepted} accepted; {first * 1e6:.0f} us each at first, {last * 1e6:.0f} us at last; at most {most} children")
        assert last < 3 * first, f"submitting becomes dearer: {first * 1e6:.0f} us, then {last * 1e6:.0f} us"
        began = time.monotonic()
        urgent = drover.submit("short", target, priority=100)["id"]
        run = drover.wait_run(urgent, "completed")
        print(f"the urgent one ended after {time.monotonic() - began:.1f} s")
        assert run["attempt"] == 1
        # It goes on, inside the window, and explains itself.
        done = wait.until("more to be done", lambda: [r for r in drover.get("/v1/runs", state="completed", limit=100)["runs"]][20:], 180)
        assert done and 0 < most <= WINDOW and live_children(drover) <= WINDOW
        waits = drover.get("/v1/runs", state="queued", limit=1)["runs"][0]["id"]
        assert drover.get(f"/v1/run/{waits}/explain")["explain"]["waiting"]["position"] > 1
        before = queued(drover)
        drover.kill9()
        drover.start()
        assert before - MANY // 100 < queued(drover) <= before
    finally:
        drover.close()
