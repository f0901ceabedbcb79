"""What the two steps of this workflow share: one call of gitleaks and its report into findings."""

import os

import drover_step

# Gitleaks ends with 1 for an error and, unless told otherwise, for a finding too.
FINDING_CODE = 42
# The rule that goes by entropy and a telling variable name; every other one knows the shape of its secret.
HEURISTIC_RULE = "generic-api-key"


def arguments(step, mode, source, report_path):
    """Redaction is no parameter: no secret may reach a report or a log."""
    argv = ["gitleaks", mode, "--redact", f"--exit-code={FINDING_CODE}", "--no-banner", "--no-color",
            "--log-level=warn", f"--config={step.workflow_dir / 'gitleaks.toml'}", "--report-format=json",
            f"--report-path={report_path}", f"--max-archive-depth={step.params.get('archive_depth', 0)}"]
    if not step.params.get("honour_suppressions", False):
        argv.append("--ignore-gitleaks-allow")
    return argv + [str(source)]


def run(step, mode, source, cwd=None):
    """Runs gitleaks in one of its modes and returns the rows of its report."""
    step.tool_name, step.tool_uri = "gitleaks", "https://github.com/gitleaks/gitleaks"
    step.tool_version = step.run_tool(["gitleaks", "version"], ok_codes=(0,))[1].decode().strip()
    report_path = step.scratch / f"{step.name}.json"
    report_path.unlink(missing_ok=True)
    code, _ = step.run_tool(arguments(step, mode, source, report_path), (0, FINDING_CODE), cwd=cwd)
    rows = drover_step.load_report(report_path, "gitleaks")
    drover_step.agree("gitleaks", code == FINDING_CODE, rows)
    return rows


def add(step, row, path, message, properties):
    """One row as a finding. `path` may go on into an archive after an exclamation mark."""
    path, _, inside = path.partition("!")
    if inside:
        properties = {**properties, "insideArchive": inside}
    level = "warning" if row["RuleID"] == HEURISTIC_RULE else "error"
    step.rule(row["RuleID"], row["Description"], cwe=798)
    step.add(row["RuleID"], level, message, path, row["StartLine"], row["EndLine"], properties)


def report_unreadable(step):
    """Gitleaks only logs a file that it may not read."""
    for relative, path in step.files():
        if not os.access(path, os.R_OK):
            step.unanalysed(relative, "permission denied")
