"""What a run sees of its target, in each mode, by a worker that is root and by one that is a plain user (overlays in user namespaces)."""

import glob
import os
import shutil
import signal
import subprocess

import pytest

from rig import Drover, wait
from rig.drover import Worker
from stories.steps import HOLD, go_on, reached

PLAIN_UID = 65534
FILES = {"a.txt": "alpha\n", "d/b.txt": "beta\n", "d/e/c.txt": "gamma\n"}

# Fails unless the target is exactly what was submitted.
AS_SUBMITTED = """set -eu
cd "$TARGET_DIR"
[ "$(cat a.txt d/b.txt d/e/c.txt)" = "$(printf 'alpha\\nbeta\\ngamma')" ]
[ "$(find . | wc -l)" = 6 ]
"""
CHANGE = """echo mine > a.txt
rm -r d/e
mkdir -p new/deep
echo more > new/deep/file
chmod 0700 d
"""
CHANGED = """set -eu
cd "$TARGET_DIR"
[ "$(cat a.txt)" = mine ] && [ ! -e d/e ] && [ "$(cat new/deep/file)" = more ]
"""
READ_ONLY = """for way in 'echo x > a.txt' 'rm d/b.txt' 'chmod 0777 a.txt' 'mkdir new' 'touch d' 'ln a.txt "$OUT/hard"'; do
	if (eval "$way") 2>/dev/null; then echo "$way worked" >&2; exit 1; fi
done
"""


class As:
    """A server that runs as another user."""

    uid = None

    def argv(self):
        user = [] if self.uid is None else ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]
        return [*user, *super().argv()]


class AsWorker(As, Worker):
    pass


class AsDrover(As, Drover):
    """All of it as one user, as `drover dev` is started."""

    def __init__(self, rig, toolbox, settings, uid):
        self.uid = uid
        super().__init__(rig, toolbox, settings)
        for folder in (self.data_folder, self.cache_folder, self.settings["STORE_DIR"]):
            if uid is not None:
                os.chown(folder, uid, uid)

    def add_worker(self, vertical, **settings):
        worker = AsWorker(self, vertical, settings)
        worker.uid = self.uid
        self.workers.append(worker)
        return worker.start()


def steps(*names):
    return {"steps": [{"name": name, "run": ["sh", "${WORKFLOW_DIR}/" + name + ".sh"]} for name in names]}


def add(toolbox, name, isolation, **scripts):
    """A workflow with a step for each script."""
    toolbox.add(name, "", workspace_isolation=isolation, **steps(*scripts))
    for step, script in scripts.items():
        with open(os.path.join(toolbox.folder, "workflows", name, f"{step}.sh"), "w", encoding="utf-8") as file:
            file.write(script)


@pytest.fixture(name="d", params=["root", "plain"])
def d_fixture(request, embedded_rig, toolbox):
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("NOT TESTED: workers as root (this is no root)")
    uid = PLAIN_UID if os.geteuid() == 0 and request.param == "plain" else None
    if uid is not None and shutil.which("setpriv") is None:
        pytest.skip("NOT TESTED: workers as a plain user (no setpriv)")
    for mode in ("isolated", "copy-on-write"):
        add(toolbox, f"private-{mode}", mode, look=AS_SUBMITTED, change=f'set -eu\ncd "$TARGET_DIR"\n{CHANGE}', again=CHANGED)
    add(toolbox, "shared", "shared", look=AS_SUBMITTED + READ_ONLY, again=AS_SUBMITTED)
    one = 'set -eu\n[ "$(basename "$TARGET_FILE")" = "one app.bin" ] && [ "$(cat "$TARGET_FILE")" = bytes ]\n'
    add(toolbox, "file-shared", "shared", look=one + 'if (echo x >> "$TARGET_FILE") 2>/dev/null || rm -f "$TARGET_FILE"; then exit 1; fi\n')
    add(toolbox, "file-private", "isolated", look=one + 'echo x >> "$TARGET_FILE"\nmv "$TARGET_FILE" "$OUT/moved"\n')
    add(toolbox, "hold", "isolated", main=AS_SUBMITTED + CHANGE + HOLD)
    drover = AsDrover(embedded_rig, toolbox, {"LEASE_TTL": "2s", "BACKOFF_BASE": "50ms", "BACKOFF_CAP": "200ms"}, uid).start()
    drover.method = "overlay" if request.param == "root" else "overlay-userns"
    drover.add_worker("story")
    yield drover
    drover.close()


def completed(d, workflow, target):
    run = d.wait_run(d.submit(workflow, target)["id"])
    assert run["state"] == "completed", d.logs(run["id"]) + str(run)
    return run


def below_cache(d):
    """What of runs is there: their folders, and what is still being deleted."""
    ended = glob.glob(os.path.join(d.cache_folder, "ended", "*"))
    return ended + [path for path in glob.glob(os.path.join(d.cache_folder, "*", "*-*")) if "/objects/" not in path and "/locks/" not in path]


def mounts_of(pid):
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as file:
        return file.read()


def nothing_is_left(d):
    wait.until("the runs' folders to be deleted", lambda: not below_cache(d), 20)
    for pid in ("self", d.workers[0].process.pid):
        assert d.cache_folder not in mounts_of(pid)


@pytest.mark.parametrize("mode", ["isolated", "copy-on-write"])
def test_a_private_tree_is_whole_writable_and_the_runs_own(d, mode):
    target = d.upload(FILES)
    for _ in range(4):  # each finds the target as it was submitted, also in sandboxes that were built before it was there
        run = completed(d, f"private-{mode}", target)
    assert run["sandbox"]["workspace"] == {"mode": mode, "method": d.method}
    kept = glob.glob(os.path.join(d.cache_folder, target["id"], "*"))
    assert [os.path.basename(path) for path in kept] == (["shared"] if mode == "copy-on-write" else [])
    nothing_is_left(d)


def test_a_shared_tree_is_read_only_and_stays(d):
    target = d.upload(FILES)
    for _ in range(3):
        run = completed(d, "shared", target)
    assert run["sandbox"]["workspace"] == {"mode": "shared", "method": "direct"}
    with open(os.path.join(d.cache_folder, target["id"], "workspace", "d", "b.txt"), encoding="utf-8") as file:
        assert file.read() == "beta\n"
    nothing_is_left(d)


def test_a_single_file_has_its_name(d):
    target = d.upload(b"bytes", "one app.bin")
    for workflow in ("file-shared", "file-private", "file-shared"):
        run = d.wait_run(d.submit(workflow, target, kind="file")["id"])
        assert run["state"] == "completed", d.logs(run["id"]) + str(run)
    nothing_is_left(d)


def test_a_canceled_run_leaves_nothing(d):
    run = d.submit("hold", d.upload(FILES))
    reached(d, run["id"])
    d.cancel(run["id"])
    d.wait_run(run["id"], "canceled")
    nothing_is_left(d)


def test_a_killed_worker_leaves_nothing_that_the_next_does_not_clear(d):
    target = d.upload(FILES)
    run = d.submit("hold", target)
    reached(d, run["id"])
    worker = d.workers[0]
    worker.process.signal(signal.SIGKILL)
    worker.process.wait(40)
    assert d.cache_folder not in mounts_of("self"), "its mounts went with it"
    worker.start(ready=False)
    reached(d, run["id"], attempt=2)
    go_on(d, run["id"])
    d.wait_run(run["id"], "completed")
    nothing_is_left(d)


def test_a_full_disk_is_the_nodes_fault(embedded_rig, toolbox, tmp_path):
    """The tool fails because nothing more can be written: the run is tried again elsewhere, and the cache is as it was."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: a full disk (mounting needs root)")
    image, small = tmp_path / "image", os.path.join(embedded_rig.folder, "small")
    os.mkdir(small)
    with open(image, "wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, small], check=True)
    try:
        add(toolbox, "fill", "isolated", main='set -e\ncd "$TARGET_DIR"\ncat a.txt\ndd if=/dev/zero of=d/big bs=64k\n')
        add(toolbox, "look", "isolated", main=AS_SUBMITTED)
        d = Drover(embedded_rig, toolbox, {"MAX_ATTEMPTS": "1", "BACKOFF_BASE": "50ms", "BACKOFF_CAP": "100ms"}).start()
        d.add_worker("story", CACHE_DIR=os.path.join(small, "cache"), CACHE_MIN_FREE="0")
        target = d.upload(FILES)
        run = d.wait_run(d.submit("fill", target)["id"])
        assert run["state"] == "failed" and run["fail_class"] == "infra" and "disk" in run["reason"], run
        completed(d, "look", target)
        d.close()
    finally:
        subprocess.run(["umount", "-l", small], check=True)
