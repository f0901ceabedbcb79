"""Secrets in the files of the target, as they are now."""

import drover_step
import gitleaks_run


def scan(step):
    gitleaks_run.report_unreadable(step)
    honour = step.params.get("honour_suppressions", False) and not step.single_file
    # A .gitleaksignore names findings by the path gitleaks walked: relative paths let it work, absolute ones do not.
    rows = gitleaks_run.run(step, "dir", "." if honour else step.target, cwd=step.root if honour else None)
    for row in rows:
        gitleaks_run.add(step, row, step.relative(row["File"]), row["Description"], {})


drover_step.main("gitleaks", scan)
