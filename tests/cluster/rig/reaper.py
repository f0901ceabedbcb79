"""Cleans up after a test run that died without doing so itself.

Runs beside it and waits on a pipe: the word "done" ends the watch, an end of file without it means that the tests
were killed, and everything of the rig is removed.

    python3 -m rig.reaper RIG_ID FOLDER
"""

import os
import signal
import subprocess
import sys

from . import sweep


def watch(rig_id, folder):
    """Start one for the rig; keep the result and hand it to dismiss() after an orderly end."""
    env = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST") if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-B", "-m", "rig.reaper", rig_id, folder],
        cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def dismiss(reaper):
    try:
        reaper.stdin.write(b"done\n")
        reaper.stdin.close()
    except BrokenPipeError:
        pass
    reaper.wait(30)


def _docker(*args, check=True):
    return subprocess.run(["docker", *args], check=check, capture_output=True, text=True)


def main():
    rig_id, folder = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() == b"done\n":
        return
    sweep.everything(sweep.rig_claim(rig_id, folder), _docker if os.environ.get("DOCKER_HOST") else None)


if __name__ == "__main__":
    main()
