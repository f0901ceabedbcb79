"""What is measured against: the real servers, and dispatchers with a toolbox in which starting is all there is to do."""

import dataclasses
import os
import shutil
import stat
import time

from rig import binaries, wait
from rig.drover import Drover
from rig.rig import Rig
from rig.toolbox import Toolbox

from .instruments import Instruments

WINDOW = 8
TARGET = {"a.txt": "A target that every node has in its cache after the first run.\n"}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How often and how much. Quick: proves that everything still measures, in a fraction of the time."""

    warm_ups: int = 3
    pairs: int = 40
    docker_pairs: int = 20
    queued: int = 20000
    queued_most: int = 100000
    deep_rounds: int = 24
    deep_runs: int = 1000
    rounds: int = 5
    round_requests: int = 600
    peer_requests: int = 300
    restarts: int = 5
    uploads: int = 5
    upload_bytes: int = 1 << 30
    tree_files: int = 20000
    demos: int = 2


QUICK = Sizes(
    warm_ups=1, pairs=4, docker_pairs=2, queued=1000, queued_most=3000, deep_rounds=2, deep_runs=200, rounds=2, round_requests=200, peer_requests=100, restarts=2,
    uploads=2, upload_bytes=64 << 20, tree_files=2000, demos=0,
)


class World:
    """with World(build folder, quick) as world: real servers, and dispatchers on demand."""

    def __init__(self, instruments_folder, quick):
        self.quick = quick
        self.sizes = QUICK if quick else Sizes()
        self.tools = Instruments(instruments_folder)
        self.rig = Rig(keep=os.environ.get("DROVER_RIG_KEEP") == "1")
        self.dispatchers = []

    def __enter__(self):
        try:
            self.rig.start_servers()
        except BaseException:
            self.rig.teardown()
            raise
        return self

    def __exit__(self, *_):
        try:
            for drover in self.dispatchers:
                drover.close()
        finally:
            self.rig.teardown()

    def add_dispatcher(self, toolbox, worker=None, **settings):
        """A dispatcher on the servers, ready, its workflows loaded. worker: settings of its workers."""
        drover = Drover(self.rig, toolbox, {"LOG_LEVEL": "info", **settings})
        self.dispatchers.append(drover)
        if worker:
            with open(drover.settings["WORKER_ENV_FILE"], "a", encoding="utf-8") as file:
                file.writelines(f"{name}={value}\n" for name, value in worker.items())
        drover.start()
        loaded = lambda: any(w["name"] == "stamp" for w in drover.get("/v1/workflows")["workflows"])  # noqa: E731
        wait.until("the workflows to be loaded", loaded, 60, drover.process.exit_reason)
        return drover

    def toolbox(self, name, driver="raw_exec", image=""):
        """The repository's toolbox, with a vertical and two workflows of our own: "stamp" tells when its tool starts, "hold"
        keeps its worker."""
        folder = os.path.join(self.rig.folder, name)
        toolbox = Toolbox(folder, driver=driver, image=image, window=WINDOW)
        shutil.copytree(os.path.join(binaries.ROOT, "toolbox"), folder, dirs_exist_ok=True)
        program = os.path.join(folder, "workflows", "stamp", "stamp")
        os.makedirs(os.path.dirname(program))
        shutil.copy(self.tools.stamp, program)
        os.chmod(program, 0o755)
        toolbox.add("stamp", "", steps=[{"name": "main", "run": ["${WORKFLOW_DIR}/stamp"]}])
        toolbox.add("hold", "exec sleep 86400")
        return toolbox

    def driver(self, name):
        """Path of the program made of drive_<name>.c."""
        path = os.path.join(os.environ.get("DROVER_DRIVERS") or os.path.join(binaries.ROOT, "build", "bench"), f"drive_{name}")
        if not os.access(path, os.X_OK):
            raise LookupError(f"there is no {path}: `make bench` builds it")
        return path

    def docker_image(self):
        """An image of this machine's files: the worker, what it probes with, and the stamp program."""
        files = {"/usr/local/bin/drover-worker": binaries.drover("drover-worker"), "/usr/local/bin/stamp": self.tools.stamp}
        name = f"drover-bench-{self.rig.id}:1"
        self.rig.docker.image_from_host(name, ["sh", "true", binaries.drover("drover-worker")], files=files)
        self.rig.on_teardown(lambda: self.rig.docker("rmi", "-f", name, check=False))
        return name

    def live_children(self, namespace):
        """How many dispatched jobs Nomad has in the namespace that are not dead."""
        return sum(1 for job in self.rig.nomad.jobs(namespace=namespace) if job["ParentID"] and job["Status"] != "dead")

    def wait_calm(self, *namespaces):
        """Until no dispatched job of these is alive."""
        calm = lambda: not any(self.live_children(namespace) for namespace in namespaces)  # noqa: E731
        wait.until("dispatched jobs to end", calm, 60)

    @staticmethod
    def wait_idle():
        """Until nobody cleans up after what was measured before: half a second in which nine tenths of the processors' time are idle.
        On a machine that others use it is not waited for longer than 15 s."""
        end = time.monotonic() + 15
        before = processor_ticks()
        while time.monotonic() < end:
            time.sleep(0.5)
            after = processor_ticks()
            if after[1] - before[1] >= 0.9 * (after[0] - before[0]):
                return
            before = after

    def fill_window(self, drover):
        """Give the dispatcher's one-shots something that lasts: from then on its window is full and its queue stands still."""
        target = drover.upload(TARGET)
        for _ in range(WINDOW):
            drover.submit("hold", target, timeout_ms=1800000)
        running = lambda: len(drover.runs(state="running", limit=100)) == WINDOW  # noqa: E731
        wait.until("the window to be full of running one-shots", running, 120)
        return target


def processor_ticks():
    """Of all processors since the start: in all, and idle."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(field) for field in file.readline().split()[1:9]]
    return sum(ticks), ticks[3] + ticks[4]


def submission(target, prefix):
    """The body of a submission for Instruments.load: with an idempotency key, as our command line sends it."""
    return (
        '{"workflow":"stamp","target":{"id":"%s","name":"target.tar.gz","kind":"tree"},"params":{},'
        '"idempotency_key":"%s-@SEQ@"}' % (target["id"], prefix)
    )


def make_writable(folder):
    """For a host volume that containers use under another uid."""
    os.chmod(folder, stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO)


