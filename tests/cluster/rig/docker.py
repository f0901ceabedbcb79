"""A Docker engine: the one that answers, or a private dockerd when we may start one."""

import io
import os
import shutil
import subprocess
import tarfile

from . import wait
from .process import Process, environment

READY_S = 60.0


class Docker:
    """An engine that answers at self.host (unix:// address)."""

    def __init__(self, host):
        self.host = host

    def __call__(self, *args, check=True, input=None):
        """Run the docker program against this engine. input: bytes for its standard input."""
        done = subprocess.run(
            ["docker", *args],
            env={**_plain_env(), "DOCKER_HOST": self.host},
            input=input,
            capture_output=True,
            check=False,
        )
        done.stdout, done.stderr = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
        assert not check or done.returncode == 0, f"docker {' '.join(args)}: {done.returncode}\n{done.stderr}"
        return done

    def image_from_host(self, name, programs, files=None, changes=()):
        """Make an image without a registry: these programs of the host with the libraries they need.

        programs   paths or names on PATH; a symbolic link arrives as the file it means
        files      {path in the image: bytes or path on the host}, mode 0755 when the host's file is executable
        changes    Dockerfile lines for the image, such as 'ENV A=b'
        """
        content = _skeleton()
        for program in programs:
            path = shutil.which(program)
            assert path, f"no program {program} for the image"
            for file in [path, *_libraries(path)]:
                content[file] = file
        content.update(files or {})
        options = [option for change in changes for option in ("--change", change)]
        self("import", *options, "-", name, input=_tar(content))
        return name


def find(rig):
    """A running engine, else a private one of the rig. (engine or None, reason when None)"""
    for host in filter(None, (os.environ.get("DOCKER_HOST"), "unix:///var/run/docker.sock")):
        if shutil.which("docker") and _answers(host):
            return Docker(host), ""
    if os.geteuid() != 0:
        return None, "no Docker engine answers, and only root may start one"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    lacking = [program for program in ("docker", "dockerd", "iptables") if not shutil.which(program, path=path)]
    if lacking:
        return None, f"no Docker engine: {', '.join(lacking)} not installed (tools/deps.sh install docker)"
    return _start_private(rig, shutil.which("dockerd", path=path))


def _start_private(rig, dockerd):
    folder = os.path.join(rig.folder, "docker")
    os.makedirs(folder, exist_ok=True)
    host = f"unix://{folder}/s"
    env = environment(rig)
    env["PATH"] += ":/usr/sbin:/sbin"
    argv = [
        dockerd,
        f"--data-root={folder}/data",
        f"--exec-root={folder}/x",
        f"--pidfile={folder}/pid",
        f"--host={host}",
        # No bridge, no firewall rules: the machine's network stays as it is. Containers use "host" or "none".
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-masq=false",
    ]
    process = Process("dockerd", argv, env, os.path.join(rig.logs, "dockerd.log"), folder)
    process.start()
    try:
        wait.until("dockerd to answer", lambda: _answers(host), READY_S, process.exit_reason)
    except wait.TimedOut as failure:
        process.stop()
        return None, f"dockerd does not start here: {failure}"
    rig.on_teardown(process.stop)
    return Docker(host), ""


def _plain_env():
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


def _answers(host):
    try:
        done = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            env={**_plain_env(), "DOCKER_HOST": host},
            capture_output=True,
            timeout=20,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _skeleton():
    return {
        "/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
        "/etc/group": b"root:x:0:\nnogroup:x:65534:\n",
        "/etc/nsswitch.conf": b"hosts: files\n",
        "/tmp/.keep": b"",
    }


def _libraries(program):
    """Paths of the shared objects (and the loader) that ldd names; none for static programs and scripts."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        return []
    words = (word for line in listed.stdout.splitlines() for word in line.split())
    return sorted({word for word in words if word.startswith("/")})


def _tar(content):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path in sorted(content):
            source, mode = content[path], 0o644
            if isinstance(source, str):
                mode = 0o755 if os.access(source, os.X_OK) else 0o644
                with open(source, "rb") as file:
                    source = file.read()
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode = len(source), mode
            tar.addfile(member, io.BytesIO(source))
    return out.getvalue()
