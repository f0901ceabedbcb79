#!/usr/bin/env python3
"""The checks behind `make lint`. Each is a function that yields (file, line, text); the list at the end runs them all.

Layers: common/base <- common/net, common/proto <- common/cluster, storage <- programs. Limits are those of
docs/ARCHITECTURE.md. Function lengths come from Universal Ctags.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {"dispatcher": "drover-dispatcher", "worker": "drover-worker", "cli": "drover", "autoscale": "drover-autoscale"}
FUNCTION_MAX, FUNCTION_P90, FILE_MAX, MAIN_MAX = 80, 45, 800, 150

# Folder -> folders whose headers it may include.
LAYERS = {
    "common/base": ["common/base"],
    "common/net": ["common/base", "common/net"],
    "common/proto": ["common/base", "common/proto"],
    "common/cluster": ["common/base", "common/net", "common/proto", "common/cluster"],
    "storage": ["common/base", "common/net", "common/proto", "storage"],
    "dispatcher/core": ["common/base", "common/proto", "dispatcher/core"],
    "dispatcher": ["common/base", "common/net", "common/proto", "common/cluster", "storage", "dispatcher", "dispatcher/core"],
    "worker": ["common/base", "common/net", "common/proto", "common/cluster", "storage", "worker"],
    "cli": ["common/base", "common/net", "common/proto", "common/cluster", "storage", "cli"],
    "autoscale": ["common/base", "common/net", "common/cluster", "autoscale"],
}

# Pure code does no I/O and reads no clock: these calls must not appear in it.
CORE_CALLS = r"\b(clock_now|clock_mono_ms|clock_real_ms|time|open|read|write|socket|pthread_\w+|rand|random_bytes|log_\w+|http_\w+)\s*\("
PURE = {
    "dispatcher/core": CORE_CALLS,
    "autoscale/policy.c": CORE_CALLS, "autoscale/strategy.c": CORE_CALLS, "autoscale/victims.c": CORE_CALLS, "autoscale/sim.c": CORE_CALLS,
    "autoscale/sim_policies.c": CORE_CALLS,
}

# Third-party header -> files or folders that may include it.
THIRD_PARTY = {
    "curl/": ["common/net/http_client.c"],
    "microhttpd.h": ["common/net/http_server_priv.h", "common/net/http_server.c", "common/net/http_request.c"],
    "openssl/": ["common/base/digest.c"],
    "yaml.h": ["common/proto/yaml_json.c"],
    "sqlite3.h": ["dispatcher/ledger_sqlite.h", "dispatcher/ledger_sqlite.c"],
    "archive.h": ["storage/extract_walk.c", "storage/pack.c", "dispatcher/bundle.c"],
    "archive_entry.h": ["storage/extract_walk.c", "storage/pack.c", "dispatcher/bundle.c"],
    "seccomp.h": ["storage/extract_confine.c", "worker/sandbox_seccomp.c"],
    "libpq-fe.h": [],
    "jansson.h": ["common/net/http_json.c", "common/proto/", "common/cluster/", "dispatcher/", "worker/", "cli/", "autoscale/"],
}

BANNED = {
    r"\b(strcpy|strcat|sprintf|vsprintf|gets|strtok|tmpnam|mktemp|asctime|ctime|gmtime|localtime)\s*\(": "use a bounded or reentrant call",
    r"\b(atoi|atol|atoll|atof|strtol|strtoll|strtoul|strtoull|sscanf)\s*\(": "use base/num.h: numbers have bounds",
    r"\b(system|popen|wordexp)\s*\(": "use base/proc.h: no shell",
    r"(?<!x)\b(malloc|calloc|realloc|strdup|strndup)\s*\(": "use base/mem.h",
    r"\b(sleep|usleep|nanosleep)\s*\(": "wait for the event, not for time",
    r"\b(TODO|FIXME|XXX)\b": "finish it or leave it out",
    r"\b(getenv|secure_getenv)\s*\(": "settings are read once, by base/settings.h",
}
BANNED_ALLOWED = {
    "common/base/num.c": ["strto"], "common/base/mem.c": ["malloc", "calloc", "realloc", "strdup", "strndup"],
    "storage/cache.c": ["nanosleep"],  # flock cannot be waited for and canceled at the same time
    "storage/workspace.c": ["nanosleep"],  # nor waited for with a limit
    "common/base/settings.c": ["getenv"],
    "common/base/fault.c": ["getenv"], "common/base/file.c": ["getenv"], "common/proto/yaml_json.c": [],
}


def sources(*suffixes):
    for folder in LAYERS:
        for path in sorted((ROOT / folder).glob("*")):
            if path.suffix in suffixes:
                yield path


def rel(path):
    return str(path.relative_to(ROOT))


def strip_comments(text):
    """Blanks comments and string contents, keeping line numbers."""
    def blank(m):
        return re.sub(r"[^\n]", " ", m.group(0)) if not m.group(0).startswith('"') else '"' + re.sub(r"[^\n]", " ", m.group(0)[1:-1]) + '"'
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def check_layers():
    for path in sources(".c", ".h"):
        folder = rel(path.parent)
        for no, line in enumerate(path.read_text().splitlines(), 1):
            m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not m:
                continue
            name = m.group(1)
            home = "common/" + os.path.dirname(name) if (ROOT / "common" / name).exists() else os.path.dirname(name)
            if not home:
                yield rel(path), no, f'"{name}" must carry its folder'
            elif home not in LAYERS[folder]:
                yield rel(path), no, f'{folder} must not include {home} ("{name}")'


def check_purity():
    for place, pattern in PURE.items():
        for path in [ROOT / place] if place.endswith(".c") else sorted((ROOT / place).glob("*.c")):
            for no, line in enumerate(strip_comments(path.read_text()).splitlines(), 1):
                m = re.search(pattern, line)
                if m:
                    yield rel(path), no, f"{m.group(1)}() in a pure core"


def check_third_party():
    for path in sources(".c", ".h"):
        for no, line in enumerate(path.read_text().splitlines(), 1):
            m = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
            if not m:
                continue
            for prefix, allowed in THIRD_PARTY.items():
                if m.group(1).startswith(prefix) and not any(rel(path) == a or (a.endswith("/") and rel(path).startswith(a)) for a in allowed):
                    yield rel(path), no, f"<{m.group(1)}> is allowed in {', '.join(allowed) or 'no file'} only"


def check_lengths():
    files = [rel(p) for p in sources(".c", ".h")]
    for name in files:
        n = len((ROOT / name).read_text().splitlines())
        limit = MAIN_MAX if name.endswith("/main.c") else FILE_MAX
        if n > limit:
            yield name, n, f"{n} lines, at most {limit}"
    out = subprocess.run(["ctags", "--fields=+ne", "--kinds-C=f", "--output-format=json", "-f", "-"] + files,
                         cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lengths = []
    for line in out.splitlines():
        tag = json.loads(line)
        if "end" not in tag:
            continue
        n = tag["end"] - tag["line"] + 1
        lengths.append(n)
        if n > FUNCTION_MAX:
            yield tag["path"], tag["line"], f"{tag['name']} has {n} lines, at most {FUNCTION_MAX}"
    lengths.sort()
    p90 = lengths[len(lengths) * 9 // 10] if lengths else 0
    if p90 > FUNCTION_P90:
        yield "all", 0, f"the 90th percentile of function lengths is {p90}, at most {FUNCTION_P90}"


def check_contracts():
    """Each prototype in a header has a comment above it; one comment may serve a group without a blank line inside."""
    for path in sources(".h"):
        lines = path.read_text().splitlines()
        if not any(line.startswith("#ifndef ") for line in lines[:60]):
            yield rel(path), 1, "no include guard"
        if not lines or not lines[0].startswith("/* " + path.name + " - "):
            yield rel(path), 1, f"must begin with '/* {path.name} - what it is for'"
        documented = in_comment = False
        depth = 0
        for no, line in enumerate(lines, 1):
            text = line.strip()
            if in_comment or text.startswith("/*"):
                in_comment = "*/" not in text
                documented = True
                continue
            if text == "":
                documented = False if depth == 0 else documented
            elif depth == 0 and "{" not in line and re.match(r"^[a-z].*\b[a-z_0-9]+\(", line) and not line.startswith(("static inline", "typedef")) and not documented:
                yield rel(path), no, "a prototype without a contract"
            depth += line.count("{") - line.count("}")


def check_banned():
    for path in sources(".c", ".h"):
        text = path.read_text()
        code = strip_comments(text).splitlines()
        raw = text.splitlines()
        for pattern, why in BANNED.items():
            for no, line in enumerate(code, 1):
                probe = raw[no - 1] if "TODO" in pattern else line
                m = re.search(pattern, probe)
                if m and not any(m.group(1).startswith(a) for a in BANNED_ALLOWED.get(rel(path), [])):
                    yield rel(path), no, f"{m.group(1)}: {why}"


def check_design_lists():
    """Each program's DESIGN.md ends in a list `- file - sentence` of exactly the files in its folder."""
    for folder in list(PROGRAMS) + ["storage"]:
        page = ROOT / folder / "DESIGN.md"
        if not page.exists():
            yield f"{folder}/DESIGN.md", 1, "is missing"
            continue
        items = re.findall(r"^- (`[^—]*`) —|^- (`[\w./]+\.[ch]`)", page.read_text(), flags=re.M)
        listed = {name for item in items for name in re.findall(r"`([\w./]+\.[ch])`", item[0] or item[1])}
        present = {str(p.relative_to(ROOT / folder)) for p in (ROOT / folder).rglob("*.[ch]")}
        for name in sorted(present - listed):
            yield f"{folder}/DESIGN.md", 1, f"does not list {name}"
        for name in sorted(listed - present):
            yield f"{folder}/DESIGN.md", 1, f"lists {name}, which is not there"


def check_settings_docs():
    """docs/CONFIG.md holds exactly what each program prints of its settings table."""
    page = ROOT / "docs/CONFIG.md"
    text = page.read_text() if page.exists() else ""
    folder = Path(os.environ.get("DROVER_BIN", ROOT / "build/bin"))
    for program in PROGRAMS.values():
        binary = folder / program
        if not binary.exists():
            yield str(binary), 0, "is not built: run make"
            continue
        table = subprocess.run([binary, "-settings-markdown"], capture_output=True, text=True).stdout.strip()
        if not table or table not in text:
            yield "docs/CONFIG.md", 1, f"differs from `{program} -settings-markdown`: run tools/lint/config-docs.sh"


def check_simulation_docs():
    """docs/SCALING.md and its picture hold what the simulator says."""
    r = subprocess.run([ROOT / "tools/simulate-docs.sh", "--check"], capture_output=True, text=True)
    if r.returncode != 0:
        yield "docs/SCALING.md", 1, r.stderr.strip()


def check_shell():
    scripts = [p for p in list(ROOT.glob("tools/**/*.sh")) + list(ROOT.glob("toolbox/**/*.sh")) + [ROOT / ".ci/run"] if p.exists()]
    for path in scripts:
        shell = "bash" if "bash" in path.read_text().splitlines()[0] else "sh"
        r = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True)
        if r.returncode != 0:
            yield rel(path), 1, r.stderr.strip()


CHECKS = [check_layers, check_purity, check_third_party, check_lengths, check_contracts, check_banned, check_design_lists,
          check_settings_docs, check_simulation_docs, check_shell]


def main():
    bad = 0
    for check in CHECKS:
        for name, line, text in check():
            print(f"{name}:{line}: {text}")
            bad += 1
    if bad:
        sys.exit(f"lint: {bad} complaints")
    print(f"lint: {len(CHECKS)} checks, no complaint")


if __name__ == "__main__":
    main()
