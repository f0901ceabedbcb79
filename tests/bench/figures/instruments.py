"""What measures: the two programs of this folder, and the kernel's account of a process's memory."""

import json
import os
import re
import subprocess
import threading
import time

from rig import wait

STAMP_LINE = re.compile(r"drover-stamp (\d+)")


class Instruments:
    """The programs that tools/bench.sh built."""

    def __init__(self, folder):
        self.stamp = os.path.join(folder, "stamp")
        self._load = os.path.join(folder, "load")

    def post(self, address, path, body):
        """Send JSON: (time at which it was sent in ns, the answer's JSON). The answer must be 200 or 201."""
        argv = [self.stamp, "post", address, path]
        done = subprocess.run(argv, input=json.dumps(body), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"POST {path}: {done.stderr.strip()}"
        line, _, answer = done.stdout.partition("\n")
        sent_ns, _, status = (int(word) for word in line.split())
        assert status in (200, 201), f"POST {path} -> {status} {answer[:500]}"
        return sent_ns, json.loads(answer)

    def until_200(self, address, path, limit_ms):
        """A process that asks every millisecond from now on; its output is the time of the first answer 200."""
        return subprocess.Popen(
            [self.stamp, "wait", address, path, str(limit_ms)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def load(self, address, method, path, body, requests, connections=16, first=0):
        """Requests over kept connections, "@SEQ@" in the body numbered from first. See Load; none may fail."""
        argv = [self._load, "-c", connections, "-n", requests, "-s", first, address, method, path]
        done = subprocess.run([str(arg) for arg in argv], input=body, capture_output=True, text=True, check=False)
        return Load(done, requests)

    def send_file(self, address, path, file, headers=()):
        """PUT a file; how long it took in seconds."""
        options = [option for header in headers for option in ("-H", header)]
        done = subprocess.run(
            [self._load, *options, "-f", file, address, "PUT", path], capture_output=True, text=True, check=False
        )
        return Load(done, 1).latencies_ms[0] / 1000


class Load:
    """What the load program saw; AssertionError when a request failed."""

    def __init__(self, done, requests):
        assert done.returncode == 0, f"load: {done.stderr}"
        seen = json.loads(done.stdout)
        assert seen["errors"] == 0, f"{seen['errors']} of {requests} requests failed, the first: {seen['first_error']}"
        self.latencies_ms = [ns / 1e6 for ns in seen["latency_ns"]]
        self.per_s = requests / (seen["wall_ns"] / 1e9)


def stamp_in(text):
    """The time that the stamp program printed into a log, or None."""
    found = STAMP_LINE.search(text)
    return int(found.group(1)) if found else None


def _rollup(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        words = (line.split() for line in file if line.endswith("kB\n"))
        return {word[0].rstrip(":"): int(word[1]) for word in words}


def tree_of(pid):
    """A process and all that it started, as far as they still are."""
    found = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                for child in file.read().split():
                    found += tree_of(int(child))
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def memory_mb(pid, descendants=True):
    """(private, resident) of a process and what it started, in MB of 10^6 bytes."""
    private_kb = resident_kb = 0
    for each in tree_of(pid) if descendants else [pid]:
        try:
            rollup = _rollup(each)
        except (FileNotFoundError, ProcessLookupError):
            continue
        private_kb += rollup["Private_Clean"] + rollup["Private_Dirty"]
        resident_kb += rollup["Rss"]
    return private_kb * 1024 / 1e6, resident_kb * 1024 / 1e6


def settled_memory_mb(pid, still_s=1.0, timeout_s=20.0):
    """The same once the private memory has stood still for a second (or time is up: it is what it is then)."""
    seen = {"at": time.monotonic(), "value": memory_mb(pid)}

    def still():
        value = memory_mb(pid)
        if abs(value[0] - seen["value"][0]) > 0.1:
            seen.update(at=time.monotonic(), value=value)
        return time.monotonic() - seen["at"] >= still_s

    try:
        wait.until("memory to stand still", still, timeout_s)
    except wait.TimedOut:
        pass
    return memory_mb(pid)


class Sampler:
    """Calls probe() every so often in a thread while the with block runs; max is the largest answer.

    A probe that fails once is asked again; one that fails at the end too is an error of the block.
    """

    def __init__(self, probe, every_s):
        self._probe, self._every_s = probe, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples = []

    @property
    def max(self):
        return max(self.samples)

    def _run(self):
        while not self._stop.wait(self._every_s):
            try:
                self.samples.append(self._probe())
            except OSError:
                continue

    def __enter__(self):
        self.samples.append(self._probe())
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._stop.set()
        self._thread.join()
        if kind is None:
            self.samples.append(self._probe())
