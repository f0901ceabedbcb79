"""Python sources through bandit.

Bandit ends with 0 for a path that is not there and for files it cannot parse; the first is checked before a step
starts, the second is read from `errors` of its JSON report. Given folders, it would obey a `.bandit` file of the target
that switches tests off; it is given files.
"""

import drover_step

LEVEL = {"LOW": "note", "MEDIUM": "warning", "HIGH": "error"}
# Tests that say nothing about how a thing is used. Each use worth a look has a test of its own.
SKIPPED_TESTS = [
    "B101",  # assert: belongs to code quality
    "B401", "B402", "B403", "B404", "B405", "B406", "B407", "B408", "B409", "B411", "B412", "B415",  # mere imports
    "B603", "B607",  # subprocess without a shell, by name: the form one should use
    "B105",  # a string in a variable with a telling name; the rule python-hardcoded-credential looks at the value too
]
FILES_PER_CALL = 1000
FILE_MAX_BYTES = 5_000_000


def is_python(relative, path):
    """By suffix, or by the first line of a script without one."""
    if relative.endswith((".py", ".pyw")):
        return True
    if "." in path.name:
        return False
    with open(path, "rb") as file:
        first = file.readline(200)
    return first.startswith(b"#!") and b"python" in first


def collect(step):
    """The files for bandit; those it cannot take are reported."""
    chosen = []
    for relative, path in step.files():
        try:
            if not is_python(relative, path):
                continue
            if path.stat().st_size > FILE_MAX_BYTES:
                step.unanalysed(relative, f"larger than {FILE_MAX_BYTES} bytes")
                continue
            with open(path, "rb"):
                chosen.append(path)
        except OSError as error:
            step.unanalysed(relative, error.strerror)
    return chosen


def scan_files(step, files):
    """One call of bandit and its report into findings. Returns how many files it really parsed."""
    report_path = step.scratch / "bandit.json"
    report_path.unlink(missing_ok=True)
    argv = ["bandit", "--quiet", "--format", "json", "--output", str(report_path),
            "--skip", ",".join(SKIPPED_TESTS)]
    if not step.params.get("honour_suppressions", True):
        argv.append("--ignore-nosec")
    code, _ = step.run_tool(argv + ["--"] + [str(path) for path in files], ok_codes=(0, 1))
    report = drover_step.load_report(report_path, "bandit")
    drover_step.agree("bandit", code == 1, report["results"])
    for problem in report["errors"]:
        step.unanalysed(step.relative(problem["filename"]), problem["reason"])
    for found in report["results"]:
        rule = found["test_id"]
        cwe = (found.get("issue_cwe") or {}).get("id")
        step.rule(rule, found["test_name"].replace("_", " "), cwe, found.get("more_info"))
        step.add(rule, LEVEL[found["issue_severity"]], found["issue_text"], step.relative(found["filename"]),
                 found["line_number"], max(found["line_range"] or [1]),
                 {"confidence": found["issue_confidence"].lower()})
    return len(files) - len(report["errors"])


def scan(step):
    step.tool_name, step.tool_uri = "bandit", "https://bandit.readthedocs.io/"
    files = collect(step)
    parsed = 0
    for start in range(0, len(files), FILES_PER_CALL):
        step.progress(100 * start // len(files), f"{start} of {len(files)} files")
        parsed += scan_files(step, files[start:start + FILES_PER_CALL])
    if files and parsed == 0:
        raise drover_step.StepError(f"none of {len(files)} Python files could be parsed")


drover_step.main("bandit", scan)
