"""Sources of several languages through semgrep with the rules of this workflow.

Semgrep ends with 0 when there are findings (unless `--error`) and when it could not parse a file (even with
`--strict`), so what counts is `errors` of its JSON report. It also leaves out, by default, what the target's ignore
files and an ignore list of its own name; a scan of an untrusted target does not take that advice.
"""

import os

import drover_step

LEVEL = {"INFO": "note", "WARNING": "warning", "ERROR": "error"}
# What semgrep says when a part of a file went unread; the rest of the file was analysed.
PARTIAL = {"PartialParsing"}
# Reasons to skip a file that are no loss: it is not a source file at all, or the parameters say so.
HARMLESS_SKIPS = {"wrong_language", "cli_exclude_flags_match", "always_skipped", "binary", "irrelevant_rule"}
FILE_MAX_BYTES = 5_000_000


def environment(step):
    """Semgrep keeps settings, logs and a cache in the home folder; all of that goes to scratch."""
    home = step.scratch / "semgrep-home"
    home.mkdir(exist_ok=True)
    return {
        "HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home), "XDG_DATA_HOME": str(home),
        "SEMGREP_SETTINGS_FILE": str(home / "settings.yml"), "SEMGREP_LOG_FILE": str(home / "semgrep.log"),
        "SEMGREP_VERSION_CACHE_PATH": str(home / "version"), "SEMGREP_SEND_METRICS": "off",
        "SEMGREP_ENABLE_VERSION_CHECK": "0",
    }


def arguments(step, report_path):
    argv = [
        "semgrep", "scan", "--config", str(step.workflow_dir / "rules"), "--metrics=off", "--disable-version-check",
        "--oss-only", "--no-git-ignore", "--x-ignore-semgrepignore-files", "--no-rewrite-rule-ids", "--error",
        "--verbose", f"--json-output={report_path}", f"--max-target-bytes={FILE_MAX_BYTES}",
        f"--timeout={step.params.get('rule_timeout_s', 10)}", f"--jobs={min(2, os.cpu_count() or 1)}",
    ]
    for pattern in step.params.get("exclude", []):
        anchored = "/" in pattern.rstrip("/") and not pattern.startswith("/")
        argv.append(f"--exclude={'/' if anchored else ''}{pattern}")
    if not step.params.get("honour_suppressions", True):
        argv.append("--disable-nosem")
    return argv + ["--", str(step.target)]


def kind_of(problem):
    """The name of an error: plain text, or a list that begins with the name."""
    kind = problem["type"]
    return kind[0] if isinstance(kind, list) else kind


def read_errors(step, problems):
    """Errors about a file become findings; one about anything else (a rule, the engine) fails the step."""
    for problem in problems:
        kind, path = kind_of(problem), problem.get("path")
        if not path:
            raise drover_step.StepError(f"semgrep: {kind}: {problem.get('message', 'no message')}")
        level = "note" if kind in PARTIAL else "warning"
        step.unanalysed(step.relative(path), f"{kind}: {problem.get('message', '').splitlines()[0]}", level)


def read_results(step, results):
    for found in results:
        rule, extra = found["check_id"].rsplit(".", 1)[-1], found["extra"]
        cwe = int(extra["metadata"]["cwe"].split(":", 1)[0].removeprefix("CWE-"))
        step.rule(rule, extra["metadata"]["title"], cwe)
        step.add(rule, LEVEL[extra["severity"]], " ".join(extra["message"].split()), step.relative(found["path"]),
                 found["start"]["line"], found["end"]["line"])


def scan(step):
    step.tool_name, step.tool_uri = "semgrep", "https://semgrep.dev/docs/"
    report_path = step.scratch / "semgrep.json"
    report_path.unlink(missing_ok=True)
    step.progress(5, "scanning")
    code, _ = step.run_tool(arguments(step, report_path), ok_codes=(0, 1), env=environment(step))
    report = drover_step.load_report(report_path, "semgrep")
    drover_step.agree("semgrep", code == 1, report["results"])
    step.tool_version = report.get("version")
    read_errors(step, report["errors"])
    for skipped in report["paths"].get("skipped", []):
        if skipped["reason"] not in HARMLESS_SKIPS:
            step.unanalysed(step.relative(skipped["path"]), skipped["reason"].replace("_", " "))
    read_results(step, report["results"])


drover_step.main("semgrep", scan)
