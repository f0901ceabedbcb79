"""Secrets in the git history of the target, also those that a later commit removed.

The repository of the target is not trusted: its configuration could name programs for git to start (text converters,
signature checks). So git never opens it. A bare repository in scratch borrows its objects and copies its references,
and nothing else is read.
"""

import shutil

import drover_step
import gitleaks_run

GIT_ENV = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0"}


def git(step, repository, *arguments):
    """Runs git in the borrowed repository and returns its output as text."""
    argv = ["git", f"--git-dir={repository}", *arguments]
    return step.run_tool(argv, ok_codes=(0,), env=GIT_ENV)[1].decode("utf-8", "replace")


def copy_plain(source, destination):
    """Copies one file unless it is a link: a link could lead out of the target."""
    if source.is_file() and not source.is_symlink():
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, destination)


def borrow(step, dot_git):
    """Makes the bare repository and returns its path."""
    repository = step.scratch / "history.git"
    step.run_tool(["git", "init", "--quiet", "--bare", "--template=", str(repository)], (0,), env=GIT_ENV)
    (repository / "objects" / "info").mkdir(exist_ok=True)
    (repository / "objects" / "info" / "alternates").write_text(f"{dot_git / 'objects'}\n", encoding="utf-8")
    for name in ("HEAD", "packed-refs", "shallow"):
        copy_plain(dot_git / name, repository / name)
    for reference in (dot_git / "refs").rglob("*"):
        copy_plain(reference, repository / reference.relative_to(dot_git))
    return repository


def scan(step):
    dot_git = step.root / ".git"
    if step.single_file or not step.params.get("scan_history", True):
        step.note("the history was not asked for" if not step.single_file else "a single file has no history")
        return
    if not dot_git.is_dir() or dot_git.is_symlink():
        step.note("the target has no git history of its own")
        return
    repository = borrow(step, dot_git)
    commits = int(git(step, repository, "rev-list", "--all", "--count"))
    if commits == 0:
        step.note("the git history has no commit")
        return
    # Gitleaks passes over what git complains of; a damaged history has to be found before.
    git(step, repository, "rev-list", "--all", "--objects", "--quiet")
    step.progress(10, f"{commits} commits")
    for row in gitleaks_run.run(step, "git", repository):
        properties = {"commit": row["Commit"], "date": row["Date"]}
        message = f"{row['Description']} Found in commit {row['Commit'][:12]}; removing it from the history is not " \
                  "enough, revoke the secret."
        gitleaks_run.add(step, row, row["File"], message, properties)


drover_step.main("history", scan)
