"""One process of the rig: its own session, its output in a file, its environment clean and marked."""

import os
import signal
import subprocess

MARKER = "DROVER_RIG"
# The server that started it, for taking one server away with all that it runs.
PART_MARKER = "DROVER_RIG_PART"

# What the machine's environment may hand on. Everything else stays out: a stray NOMAD_TOKEN, AWS_CA_BUNDLE (Nomad does
# not start with it) or proxy setting would make a test depend on who runs it.
KEPT = ("PATH", "HOME", "USER", "LANG", "XDG_CACHE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR")
KEPT_PREFIXES = ("ASAN_", "UBSAN_", "TSAN_", "LSAN_", "DROVER_TOOLCHAINS")


def environment(rig, extra=None):
    """The environment of a process of the rig: what the machine may hand on, the marker, a TMPDIR that goes with it."""
    env = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or name.startswith(KEPT_PREFIXES)
    }
    env.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    env[MARKER] = rig.id
    env["TMPDIR"] = rig.temp
    env.update({name: str(value) for name, value in (extra or {}).items()})
    return env


class Process:
    """A server that can be started again with the same arguments."""

    def __init__(self, name, argv, env, log_path, cwd):
        self.name = name
        self.argv = [str(arg) for arg in argv]
        self.env = env
        self.log_path = log_path
        self.cwd = cwd
        self._popen = None

    def start(self):
        assert not self.alive(), f"{self.name} runs already"
        with open(self.log_path, "ab") as log:
            self._popen = subprocess.Popen(
                self.argv,
                env=self.env,
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self):
        assert self._popen is not None, f"{self.name} was never started"
        return self._popen.pid

    def alive(self):
        return self._popen is not None and self._popen.poll() is None

    def exit_reason(self):
        """Empty while it runs, else how it ended and its last words: made for wait.until(abort=…)."""
        if self._popen is None or self._popen.poll() is None:
            return ""
        return f"{self.name} ended with {self._popen.returncode}\n{self.log_tail()}"

    def signal(self, number):
        if self.alive():
            self._popen.send_signal(number)

    def wait(self, timeout_s=60.0):
        """Its exit status (negative: the signal)."""
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {timeout_s:g} s\n{self.log_tail()}") from None

    def kill9(self):
        """SIGKILL to this process alone, as a crash or the kernel would do it; its children are left as they are."""
        self.signal(signal.SIGKILL)
        return self.wait() if self._popen else None

    def stop(self, timeout_s=30.0):
        """SIGTERM, and SIGKILL when that does not help in time. Its exit status."""
        if self._popen is None:
            return None
        self.signal(signal.SIGTERM)
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill9()

    def log_text(self):
        try:
            with open(self.log_path, "rb") as log:
                return log.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def log_tail(self, lines=40):
        return "\n".join(self.log_text().splitlines()[-lines:])
