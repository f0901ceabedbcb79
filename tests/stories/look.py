"""What is true outside of Drover: processes, files and descriptors, as the kernel tells them."""

import os

from rig import wait


def processes(words):
    """Pids of live processes (not zombies) with exactly these words as their command line."""
    wanted = b"\0".join(word.encode() for word in words) + b"\0"
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    if file.read() == wanted:
                        found.append(int(name))
            except OSError:
                pass
    return found


def started(words, timeout_s=wait.PATIENCE_S):
    return wait.until(f"{' '.join(words)} to run", lambda: processes(words), timeout_s)


def gone(words, timeout_s=wait.PATIENCE_S):
    wait.until(f"{' '.join(words)} to be gone", lambda: not processes(words), timeout_s)


def files(folder):
    """Relative paths of all files below the folder."""
    return sorted(
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, names in os.walk(folder)
        for name in names
    )


def descriptors(pid):
    """What the open descriptors of a process refer to, without sockets: keep-alive connections come and go."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if not target.startswith("socket:"):
            found.append(target)
    return sorted(found)


def sockets(pid):
    count = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            count += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
        except OSError:
            pass
    return count


def private_kib(pid):
    """Private memory of a process."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_"))


def is_sanitized(pid):
    """Whether it is a build with AddressSanitizer, whose memory tells nothing."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
        return "libasan" in file.read()


def run_folders(cache):
    """Folders and locks of runs in a cache: what must be gone once all runs have ended."""
    found = []
    for target in os.listdir(cache):
        path = os.path.join(cache, target)
        if os.path.isdir(path) and len(target) == 36 and target.count("-") == 4:
            found += [os.path.join(target, name) for name in os.listdir(path)]
    return found


def mounts(folder):
    """Mounts below the folder."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        return [line.split()[1] for line in file if line.split()[1].startswith(folder + "/")]
