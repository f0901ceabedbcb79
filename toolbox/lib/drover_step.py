"""What every step script needs: its environment, progress, running a tool without false cleans, and SARIF out.

Only the standard library is used. Installed next to the tools of each vertical, so a step says `import drover_step`.
docs/WORKFLOWS.md describes the environment of a step; the smallest complete step is

    import drover_step

    def scan(step):
        step.tool_name = "my-tool"
        step.add("my-rule", "warning", "what is wrong and what to do", "src/a.py", line=3)

    drover_step.main("my_step", scan)
"""

import json
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

VERSION = "1.0.0"

# Not 1: Python itself ends with 1 when a script cannot even be loaded, and that must never pass for "has findings".
EXIT_CLEAN = 0
EXIT_FAILED = 2
EXIT_FINDINGS = 10

LEVELS = ("note", "warning", "error")
# GitHub's scale for security-severity, the middle of the band that each level stands for.
SECURITY_SEVERITY = {"note": "3.0", "warning": "5.5", "error": "8.0"}
UNANALYSED = "unanalysed-file"
PROGRESS_FD = 3
MESSAGE_MAX_CHARS = 2000
PROGRESS_MAX_CHARS = 200
STDERR_TAIL_CHARS = 2000
VCS_FOLDERS = {".git", ".hg", ".svn"}


class StepError(Exception):
    """The scan did not happen as it should: the step fails with this text and nobody may read it as clean."""


class Progress:
    """JSON lines to file descriptor 3; silent when nobody gave us one (a step started by hand)."""

    def __init__(self, step_name):
        self._step_name = step_name
        self._file = None
        try:
            if stat.S_ISDIR(os.fstat(PROGRESS_FD).st_mode):
                return
            os.set_inheritable(PROGRESS_FD, False)
            self._file = os.fdopen(PROGRESS_FD, "w", encoding="utf-8")
        except OSError:
            return

    def post(self, percent, message):
        record = {"type": "progress", "step": self._step_name, "percent": percent, "message": message}
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        except OSError:
            self._file = None


class Step:
    """One run of one step. `root` is the folder that paths are relative to; `target` is what to scan."""

    def __init__(self, name, environ=os.environ):
        self.name = name
        self.tool_name = name
        self.tool_version = None
        self.tool_uri = None
        self.out = _folder(environ, "OUT")
        self.scratch = _folder(environ, "SCRATCH")
        self.workflow_dir = _folder(environ, "WORKFLOW_DIR")
        self.single_file = bool(environ.get("TARGET_FILE"))
        self.target = _target(environ, self.single_file)
        self.root = self.target.parent if self.single_file else self.target
        self.params = _parameters(environ)
        self.findings = []
        self.notes = []
        self._rules = {}
        self._excludes = [_glob_regex(pattern) for pattern in self.params.get("exclude", [])]
        self._progress = Progress(name)

    def progress(self, percent, message):
        """Tells whoever watches the run; percent is 0 to 100."""
        self._progress.post(percent, message)

    def note(self, text, path=None):
        """Something about the scan itself that a reader of the findings should know."""
        self.notes.append((self.scrub(text), path))
        print(f"{self.name}: {path + ': ' if path else ''}{self.scrub(text)}", file=sys.stderr)

    def scrub(self, text):
        """Takes the places of this machine out of a text."""
        for place in (self.root, self.scratch, self.out, self.workflow_dir):
            for form in {str(place), os.path.realpath(place)}:
                text = text.replace(form + "/", "").replace(form, ".")
        return text

    def relative(self, path):
        """A tool's path as a path below the root, with forward slashes. StepError when it points elsewhere."""
        joined = os.path.normpath(os.path.join(self.root, path))
        for base in (str(self.root), os.path.realpath(self.root)):
            if joined.startswith(base + os.sep):
                return joined[len(base) + 1:]
        raise StepError(f"the tool named a path outside the target: {path}")

    def excluded(self, path):
        """Whether the parameter `exclude` covers this relative path or a folder above it."""
        parts = path.split("/")
        prefixes = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
        return any(regex.match(prefix) for regex in self._excludes for prefix in prefixes)

    def files(self):
        """Yields (relative path, Path) of every regular file to look at, sorted; links and VCS folders are left out."""
        if self.single_file:
            yield self.target.name, self.target
            return
        for folder, folders, names in os.walk(self.root, onerror=self._walk_error):
            folders[:] = sorted(f for f in folders if f not in VCS_FOLDERS)
            for name in sorted(names):
                path = Path(folder, name)
                relative = self.relative(path)
                if not self.excluded(relative) and stat.S_ISREG(path.lstat().st_mode):
                    yield relative, path

    def _walk_error(self, error):
        self.unanalysed(self.relative(error.filename), f"folder cannot be read: {error.strerror}")

    def rule(self, rule_id, text, cwe=None, uri=None):
        """Describes a rule for the report; rules that were not described carry their id only."""
        self._rules[rule_id] = (text, cwe, uri)

    def add(self, rule_id, level, message, path, line=1, end_line=None, properties=None):
        """One finding. `path` is relative to the root; findings that the parameters leave out are dropped here."""
        if level not in LEVELS:
            raise StepError(f"level {level!r} of rule {rule_id} is none of {', '.join(LEVELS)}")
        threshold = self.params.get("severity_threshold", LEVELS[0])
        if LEVELS.index(level) < LEVELS.index(threshold) and rule_id != UNANALYSED:
            return
        if self.excluded(path):
            return
        self.findings.append({
            "rule": rule_id, "level": level, "message": self.scrub(message)[:MESSAGE_MAX_CHARS], "path": path,
            "line": max(1, line), "end_line": max(1, line, end_line or line), "properties": properties or {},
        })

    def unanalysed(self, path, reason, level="warning"):
        """A file the tool could not look at is a finding itself, so that "no findings" always means "was looked at"."""
        self.rule(UNANALYSED, "A file could not be analysed, so nothing is known about it.")
        self.add(UNANALYSED, level, f"Not analysed by {self.tool_name}: {reason}", path)

    def run_tool(self, argv, ok_codes, env=None, cwd=None):
        """Runs a tool and returns (exit code, stdout bytes). Any exit code outside ok_codes is a StepError."""
        environment = {**os.environ, "HOME": str(self.scratch), "TMPDIR": str(self.scratch),
                       "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
        try:
            with open(self.scratch / f"{self.name}.stderr", "w+b") as stderr:
                done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
                                      env=environment, cwd=cwd or self.scratch, check=False)
                stderr.seek(0)
                complaint = stderr.read().decode("utf-8", "replace")[-STDERR_TAIL_CHARS:].strip()
        except OSError as error:
            raise StepError(f"cannot start {argv[0]}: {error.strerror}; is the toolchain installed?") from error
        if done.returncode not in ok_codes:
            how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
            raise StepError(f"{argv[0]} failed with {how}: {complaint or 'it said nothing'}")
        return done.returncode, done.stdout

    def write_sarif(self, successful):
        """Writes ${OUT}/<step>.sarif, whole or not at all. Returns nothing."""
        rule_ids = sorted({finding["rule"] for finding in self.findings})
        driver = {"name": self.tool_name, "rules": [self._sarif_rule(rule_id) for rule_id in rule_ids]}
        if self.tool_version:
            driver["version"] = self.tool_version
        if self.tool_uri:
            driver["informationUri"] = self.tool_uri
        ordered = sorted(self.findings, key=lambda f: (f["path"], f["line"], f["rule"], f["message"]))
        report = {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": driver},
                "originalUriBaseIds": {"TARGET": {"description": {"text": "The root of the scanned target."}}},
                "invocations": [{
                    "executionSuccessful": successful,
                    "toolExecutionNotifications": [self._sarif_note(text, path) for text, path in self.notes],
                }],
                "results": [_sarif_result(finding, rule_ids) for finding in ordered],
            }],
        }
        partial = self.out / f".{self.name}.sarif.partial"
        partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, self.out / f"{self.name}.sarif")

    def _sarif_rule(self, rule_id):
        text, cwe, uri = self._rules.get(rule_id, (rule_id, None, None))
        worst = max((f["level"] for f in self.findings if f["rule"] == rule_id), key=LEVELS.index)
        rule = {"id": rule_id, "shortDescription": {"text": text}, "defaultConfiguration": {"level": worst},
                "properties": {"tags": ["security"], "security-severity": SECURITY_SEVERITY[worst]}}
        if cwe:
            rule["properties"]["tags"].append(f"external/cwe/cwe-{cwe:03d}")
        if uri:
            rule["helpUri"] = uri
        return rule

    @staticmethod
    def _sarif_note(text, path):
        note = {"level": "warning", "message": {"text": text}}
        if path:
            note["locations"] = [{"physicalLocation": {"artifactLocation": _sarif_place(path)}}]
        return note


def main(name, scan):
    """Runs scan(step), writes the report and ends the process with one of the exit codes above."""
    try:
        step = Step(name)
    except StepError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    started_mono = time.monotonic()
    failure = None
    try:
        if name in step.params.get("tools", [name]):
            step.progress(0, "started")
            scan(step)
            _refuse_unparsable(step)
        else:
            step.note("not selected by the parameter `tools`")
    except StepError as error:
        failure = str(error)
    except Exception as error:  # a defect in the step is a failed scan like any other
        failure = f"defect in the step: {type(error).__name__}: {error}"
    if failure:
        step.note(failure)
    step.write_sarif(successful=failure is None)
    elapsed_s = time.monotonic() - started_mono
    step.progress(100, f"failed: {step.scrub(failure)[:PROGRESS_MAX_CHARS]}" if failure else
                  f"done: {len(step.findings)} findings in {elapsed_s:.1f} s")
    sys.exit(EXIT_FAILED if failure else EXIT_FINDINGS if step.findings else EXIT_CLEAN)


def load_report(path, tool):
    """The JSON that a tool wrote. StepError when there is none or it is damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError) as error:
        raise StepError(f"{tool} left no readable report: {error}") from error


def agree(tool, says_findings, rows):
    """StepError when a tool's exit code and its report contradict each other about whether there are findings."""
    if says_findings != bool(rows):
        raise StepError(f"{tool}'s exit code says {'findings' if says_findings else 'none'}, its report has {len(rows)}")


def _refuse_unparsable(step):
    lost = [f["path"] for f in step.findings if f["rule"] == UNANALYSED and f["level"] != "note"]
    if lost and step.params.get("unparsable") == "fail":
        raise StepError(f"{len(lost)} files could not be analysed, first {lost[0]}, and `unparsable` is `fail`")


def _folder(environ, key):
    value = environ.get(key, "")
    if not os.path.isdir(value):
        raise StepError(f"{key} must name a folder, but is {value!r}; steps are started by a worker "
                        "(docs/WORKFLOWS.md shows how to start one by hand)")
    return Path(os.path.abspath(value))


def _target(environ, single_file):
    key = "TARGET_FILE" if single_file else "TARGET_DIR"
    value = environ.get(key, "")
    if not (os.path.isfile(value) if single_file else os.path.isdir(value)):
        raise StepError(f"{key} is {value!r}, where there is no {'file' if single_file else 'folder'}")
    if not os.access(value, os.R_OK):
        raise StepError(f"{key} cannot be read")
    return Path(os.path.abspath(value))


def _parameters(environ):
    try:
        params = json.loads(Path(environ.get("PARAMS_FILE", "")).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StepError(f"PARAMS_FILE cannot be read: {error}") from error
    if not isinstance(params, dict):
        raise StepError("PARAMS_FILE must hold a JSON object")
    return params


def _glob_regex(pattern):
    """Git's meaning of a pattern: one without a slash fits at any depth, `**` spans folders."""
    pattern = pattern.rstrip("/")
    anchored = "/" in pattern
    pieces = []
    for part in re.split(r"(\*\*/|/\*\*|\*|\?)", pattern.lstrip("/")):
        pieces.append({"**/": "(?:.*/)?", "/**": "/.*", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part)))
    return re.compile(("" if anchored else "(?:.*/)?") + "".join(pieces) + r"\Z", re.DOTALL)


def _sarif_place(path):
    return {"uri": quote(os.fsencode(path)), "uriBaseId": "TARGET"}


def _sarif_result(finding, rule_ids):
    region = {"startLine": finding["line"], "endLine": finding["end_line"]}
    result = {
        "ruleId": finding["rule"], "ruleIndex": rule_ids.index(finding["rule"]), "level": finding["level"],
        "message": {"text": finding["message"]},
        "locations": [{"physicalLocation": {"artifactLocation": _sarif_place(finding["path"]), "region": region}}],
    }
    if finding["properties"]:
        result["properties"] = finding["properties"]
    return result


if __name__ == "__main__":  # the vertical's probe: python3 -m drover_step
    print(VERSION)
