"""Shell of steps: how they tell the test where they are, and how the test tells them to go on. No step sleeps to be in time."""

import glob
import os
import secrets

from rig import wait
from rig.drover import FINAL
from rig.toolbox import REPORT

__all__ = ["HOLD", "REPORT", "announce", "go_on", "reached", "run_folder", "sleeper"]


def announce(message, percent=50):
    """Shell: post this as the run's progress."""
    return f'printf \'{{"type":"progress","step":"main","percent":{percent},"message":"{message}"}}\\n\' >&3\n'


# Shell: say "holding" and stay until go_on().
HOLD = announce("holding") + 'until [ -e "$OUT/go" ]; do sleep 0.05; done\n'


def sleeper():
    """(shell command, its words): a sleep that no other process of the machine runs, to be looked for in /proc."""
    seconds = str(10_000_000 + secrets.randbelow(80_000_000))
    return f"sleep {seconds}", ["sleep", seconds]


def reached(drover, run_id, message="holding", attempt=None, timeout_s=90.0):
    """Wait until the run has announced this; the run."""
    last = {"state": ""}

    def probe():
        run = drover.run(run_id)
        last.update(run)
        progress = run["progress"] or {}
        return run if progress.get("message") == message and attempt in (None, run["attempt"]) else None

    def ended():
        return str(last) if last["state"] in FINAL else ""

    return wait.until(f"run {run_id} to announce {message}", probe, timeout_s, ended)


def run_folder(drover, run_id):
    """The run's folder in the cache on this host; LookupError when there is none."""
    found = glob.glob(os.path.join(drover.cache_folder, "*", run_id))
    if not found:
        raise LookupError(f"no folder of {run_id}")
    return found[0]


def go_on(drover, run_id, word="go"):
    """Let a step that waits for this word ("go" at HOLD) go on."""
    with open(os.path.join(run_folder(drover, run_id), "out", word), "w", encoding="utf-8"):
        return True
