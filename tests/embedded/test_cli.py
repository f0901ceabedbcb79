"""The command line as people and pipelines meet it: exit codes, what is printed, what is left behind, and Ctrl-C."""

import hashlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rig import binaries, wait
from rig.drover import Drover
from rig.process import environment
from rig.toolbox import REPORT
from stories.steps import HOLD, go_on, reached


@pytest.fixture(name="tree")
def tree_fixture(tmp_path):
    """A small directory to scan."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.txt").write_text("planted\n")
    return tree


@pytest.fixture(name="finds", scope="module")
def finds_fixture(shared_system):
    """(drover, workflow that finds one error), one dispatcher for all tests that only ask."""
    system, toolbox = shared_system
    drover = system.drover
    if not drover.workers:
        drover.add_worker("story")
    toolbox.add("finds", REPORT)
    toolbox.add("breaks", "echo it broke >&2; exit 3")
    toolbox.add("leaves", 'mkdir -p "$OUT/sub"; echo one > "$OUT/sub/x.txt"', artifacts=["sub/**"], steps=[
        {"name": "main", "run": ["sh", "${WORKFLOW_DIR}/main.sh"]}])
    toolbox.add("typed", "exit 0", steps=[{"name": "main", "run": ["sh", "${WORKFLOW_DIR}/main.sh"]}], parameters={
        "type": "object", "additionalProperties": False,
        "properties": {"depth": {"type": "integer", "minimum": 0}, "word": {"type": "string"},
                       "skip": {"type": "array", "items": {"type": "string"}}}})
    toolbox.add("trees", "exit 0", target="tree")
    names = {"finds", "breaks", "leaves", "typed", "trees"}
    wait.until("the workflows", lambda: names <= {w["name"] for w in drover.get("/v1/workflows")["workflows"]}, 20)
    return drover


def cli_process(drover, *args, **options):
    """drover in a process of its own, for signals; output as bytes."""
    return subprocess.Popen(
        [binaries.drover("drover"), *map(str, args)],
        env=environment(drover.rig, {"DROVER_ADDR": drover.url, "HOME": drover.folder, **options.pop("env", {})}),
        cwd=drover.folder, **options)


# What a run ends in -------------------------------------------------------------------------------------------------


def test_run_shows_findings_and_ends_in_zero(finds, tree):
    done = finds.cli("run", "finds", tree, "-wait")
    assert re.search(r"error +\S+ +a\.txt:1 ", done.stdout)
    assert re.search(r"completed after .*: 1 error", done.stderr)
    assert "\033" not in done.stdout + done.stderr


@pytest.mark.parametrize("level, code", [("error", 1), ("warning", 1), ("all", 1), ("none", 0)])
def test_fail_on_decides_the_exit_code(finds, tree, level, code):
    finds.cli("run", "finds", tree, "--fail-on", level, check=code)


def test_a_failed_run_is_one_and_never_clean(finds, tree):
    done = finds.cli("run", "breaks", tree, "-wait", check=1)
    assert "failed" in done.stderr and "Reason:" in done.stderr


def test_sarif_is_written_whole(finds, tree, tmp_path):
    out = tmp_path / "out.sarif"
    finds.cli("run", "finds", tree, "-export-sarif", out)
    assert json.loads(out.read_text())["version"] == "2.1.0"
    assert sorted(os.listdir(tmp_path)) == ["out.sarif", "tree"]


def test_sarif_that_cannot_be_written_is_told_before_anything_is_sent(finds, tree):
    before = len(finds.runs())
    done = finds.cli("run", "finds", tree, "-sarif", "/nowhere/out.sarif", check=2)
    assert "/nowhere/out.sarif" in done.stderr
    assert len(finds.runs()) == before


def test_output_that_cannot_be_written_is_no_success(finds, tree):
    with open("/dev/full", "wb") as full:
        process = cli_process(finds, "runs", stdout=full, stderr=subprocess.DEVNULL)
        assert process.wait(30) == 2


@pytest.mark.parametrize("args, says", [
    (["run", "no_such", "{tree}"], "no_such"),
    (["run", "finds", "/no/such/place"], "/no/such/place"),
    (["run", "finds"], "too few words"),
    (["run", "finds", "{tree}", "-nope"], "-nope"),
    (["run", "finds", "{tree}", "-fail-on", "errors"], "errors"),
    (["run", "finds", "{tree}", "-wait", "-detach"], "-detach"),
    (["run", "typed", "{tree}", "-p", "depth=-1"], "depth"),
    (["run", "finds", "{tree}", "-p", "nope=1"], "nope"),
    (["status", "zzzzzzzz"], "zzzzzzzz"),
    (["frobnicate"], "frobnicate"),
])
def test_mistakes_end_in_two_with_words(finds, tree, args, says):
    done = finds.cli(*[a.format(tree=tree) for a in args], check=2)
    assert says in done.stderr and done.stdout == ""


@pytest.mark.parametrize("options, says", [
    (["-p", "depth=-1"], "depth"),
    (["-p", "depth=deep"], "depth"),
    (["-p", "nope=1"], "nope"),
    (["-p", "word=" + 80_000 * "x", "-p", "skip=" + 80_000 * "x"], "params"),
    (["-label", "a b=c"], "labels"),
    (["-timeout", "300d"], "timeout_ms: at most 30m"),
    (["-retention", "3000d"], "RETENTION_MAX"),
    (["-reuse", "sometimes"], "sometimes"),
    (["-key", "k", "-key-mode", "wait"], "wait"),
    (["-idempotency-key", "\n"], "printable"),
    (["-priority", "101"], "priority"),
    (["-kind", "file"], "single file"),
], ids=lambda value: value[:30] if isinstance(value, str) else value[0] + value[1][:10])
def test_wrong_values_are_told_before_anything_is_packed(finds, tree, options, says):
    (tree / "unseen.txt").write_text(f"{options}\n")
    count = len(finds.get("/v1/targets")["targets"])
    done = finds.cli("run", "typed", tree, *options, check=2)
    assert says in done.stderr and done.stdout == "", done.stderr
    assert "Packed" not in done.stderr and "Uploaded" not in done.stderr, done.stderr
    assert len(finds.get("/v1/targets")["targets"]) == count


def test_a_kind_that_the_workflow_does_not_take_is_told_before_the_upload(finds, tree):
    (tree / "unseen.bin").write_text("one file\n")
    done = finds.cli("run", "trees", tree / "unseen.bin", "-kind", "file", check=2)
    assert "takes a tree" in done.stderr and "Uploaded" not in done.stderr, done.stderr


def test_a_server_that_is_away_is_two_with_a_hint(finds):
    done = finds.cli("runs", env={"DROVER_ADDR": "http://127.0.0.1:1"}, check=2)
    assert "127.0.0.1:1" in done.stderr and "DROVER_ADDR" in done.stderr


# Targets ------------------------------------------------------------------------------------------------------------


def test_known_content_is_not_sent_again(finds, tree):
    (tree / "b.txt").write_text("unseen so far\n")
    assert "Uploaded" in finds.cli("run", "typed", tree, "-wait").stderr
    os.utime(tree / "b.txt", (1, 1))
    assert "nothing to send" in finds.cli("run", "typed", tree, "-wait").stderr


def test_what_is_left_out_is_told(finds, tree):
    (tree / ".droverignore").write_text("*.tmp\n")
    (tree / "x.tmp").write_text("x")
    os.mkfifo(tree / "pipe")
    (tree / "out").symlink_to("/etc/passwd")
    done = finds.cli("run", "typed", tree, "-wait")
    assert "left out: pipe" in done.stderr and "left out: out" in done.stderr and ".droverignore" in done.stderr


def test_a_stored_target_is_named_by_a_prefix(finds, tree):
    run = finds.cli_json("run", "typed", tree, "-wait")["run"]
    again = finds.cli_json("run", "typed", run["target"]["id"][:8], "-wait")["run"]
    assert again["target"]["id"] == run["target"]["id"] and again["state"] == "completed"


def test_parameters_are_typed_by_the_schema(finds, tree, tmp_path):
    (tmp_path / "p.json").write_text('{"depth": 1, "word": "file"}')
    run = finds.cli_json("run", "typed", tree, "-params-file", tmp_path / "p.json", "-p", "word=7", "-p", "skip=a",
                         "-p", "skip=b")["run"]
    assert run["params"] == {"depth": 1, "word": "7", "skip": ["a", "b"]}


# Reading ------------------------------------------------------------------------------------------------------------


def test_detach_prints_the_id_alone(finds, tree):
    done = finds.cli("run", "finds", tree, "-detach", "-label", "team=red")
    run_id = done.stdout.strip()
    finds.wait_run(run_id, "completed")
    assert run_id in finds.cli("runs", "-label", "team=red").stdout
    assert finds.cli("runs", "-label", "team=blue").stdout == "No runs.\n"
    assert "completed" in finds.cli("status", run_id[:-4]).stdout
    assert finds.cli("status", "-watch", run_id).returncode == 0
    assert re.search(r"error +\S+ +a\.txt:1", finds.cli("findings", run_id).stdout)
    assert "1 error" in finds.cli("findings", run_id, "-severity", "error").stdout


def test_logs_are_shown(finds, tree):
    run_id = finds.cli_json("run", "breaks", tree, "-wait", check=1)["run"]["id"]
    assert "it broke" in finds.cli("logs", run_id).stdout
    assert "it broke" in finds.cli("logs", "-f", run_id).stdout
    done = finds.cli("logs", "-attempt", "7", run_id, check=2)
    assert "no attempt 7" in done.stderr and "had 1" in done.stderr


def test_a_run_that_does_the_same_is_taken(finds, tree):
    first = finds.cli_json("run", "finds", tree, "-wait", "-not-before", "0s")["run"]["id"]
    done = finds.cli("run", "finds", tree, "-wait", "-reuse", "completed", "-reuse-max-age", "1h")
    assert f"Reused {first}" in done.stderr and "a.txt:1" in done.stdout
    assert finds.cli_json("run", "finds", tree, "-reuse", "completed")["reused"] is True
    assert "never" in finds.cli("run", "finds", tree, "-reuse", "always", check=2).stderr
    assert "-not-before" in finds.cli("run", "finds", tree, "-not-before", "soon", check=2).stderr


def test_what_failed_is_queued_again_and_forgotten(finds, tree):
    old = finds.cli_json("run", "breaks", tree, "-wait", "-label", "batch=one", check=1)["run"]["id"]
    done = finds.cli("requeue", old)
    new = done.stdout.split()[0]
    assert new != old and re.search(r"is (queued|running|failed)$", done.stdout.strip())
    finds.wait_run(new)
    assert old in finds.cli("status", new).stdout
    asked = finds.cli("purge", "-label", "batch=one", check=2)
    assert "-yes" in asked.stderr and finds.cli("status", old).returncode == 0
    assert "about 2 runs" in finds.cli("purge", "-label", "batch=one", "-dry-run").stdout
    assert finds.cli_json("purge", "-label", "batch=one", "-yes") == {"action": "purge", "matched": 2, "done": 2, "refused": 0}
    finds.cli("status", old, check=2)
    assert "which runs" in finds.cli("cancel", check=2).stderr
    assert finds.cli("runs", "-dead").stdout == "No runs.\n"


def test_what_holds_a_run_back_is_explained(finds, tree):
    finds.cli("pause", "vertical", "story", "-reason", "new image")
    run = finds.cli("run", "finds", tree, "-detach", "-max-wait", "1h").stdout.strip()
    told = finds.cli("explain", run).stdout
    assert re.search(r"^Summary +It waits: .*new image", told, re.M) and re.search(r"^Given up +in (1h|59m)", told, re.M)
    assert "Nomad" not in told, "there is none here"
    assert finds.cli("logs", run).stderr == "Nothing is logged.\n"
    assert re.search(r"vertical +story +\S+ .*new image", finds.cli("queue").stdout)
    finds.cli("resume", "vertical", "story")
    finds.wait_run(run, "completed")
    assert "It has completed" in finds.cli("explain", run).stdout


def test_about_no_runs_nobody_is_asked(finds):
    ours, theirs = pty.openpty()
    process = cli_process(finds, "purge", "-label", "batch=none", env={"TERM": "xterm"}, stdin=theirs, stderr=theirs,
                          stdout=subprocess.PIPE, start_new_session=True)
    os.close(theirs)
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0 and out == b"0 of 0 runs are forgotten.\n"
    assert "UTF-8" in finds.cli("cancel", "-label", "a=b", "-yes", "-reason", os.fsdecode(b"\xff"), check=2).stderr


@pytest.mark.parametrize("answer, code", [(signal.SIGINT, 130), (b"\n", 2), (b"y\n", 0)], ids=["Ctrl-C", "Enter", "y"])
def test_the_question_before_a_bulk_command_is_answered_at_once(finds, tree, answer, code):
    run = finds.cli_json("run", "finds", tree, "-wait", "-label", "asked=yes")["run"]["id"]
    ours, theirs = pty.openpty()
    process = cli_process(finds, "purge", "-label", "asked=yes", env={"TERM": "xterm"}, stdin=theirs, stderr=theirs,
                          stdout=subprocess.PIPE, start_new_session=True)
    os.close(theirs)
    seen = b""
    while b"[y/N]" not in seen:
        seen += os.read(ours, 4096)
    if isinstance(answer, bytes):
        os.write(ours, answer)
    else:
        process.send_signal(answer)
    out, _ = process.communicate(timeout=20)
    os.close(ours)
    assert process.returncode == code and (out == b"1 of 1 run is forgotten.\n") == (code == 0)
    assert finds.call("GET", f"/v1/run/{run}").status == (404 if code == 0 else 200)
    finds.cli("purge", "-label", "asked=yes", "-yes")


@pytest.mark.parametrize("words", [["help"], ["-h"], ["help", "cache"], ["cache", "--help"], ["help", "cache", "ls"], ["cache", "ls", "-help"]],
                         ids=" ".join)
def test_help_is_there_by_either_word(finds, words):
    told = finds.cli(*words).stdout
    assert ("cache gc" in told) == (words[-1] != "ls" and words[-2:-1] != ["ls"])
    assert ("\n  runs " in told) == ("cache" not in words)
    assert ("-limit N" in told) == ("ls" in words)


def test_help_fits_eighty_columns(finds):
    commands = re.findall(r"^  ([a-z]+(?: [a-z]+)?)  ", finds.cli("help").stdout, re.M)
    assert {"run", "cache gc", "workflow push"} <= set(commands)
    for command in ["", *commands]:
        lines = finds.cli("help", *command.split()).stdout.splitlines()
        assert [line for line in lines if len(line) > 80 or line != line.rstrip()] == [], command


@pytest.mark.parametrize("words", [("run", "finds", ".", "-fail-on"), ("findings", "r", "-severity")], ids=lambda w: w[-1])
def test_a_wrong_level_is_told_by_the_option_that_has_it(finds, words):
    assert finds.cli(*words, "bad", check=2).stderr.startswith(f"Error: {words[-1]}: 'bad' is no level\nHint:  error, ")


def test_artifacts_are_fetched_whole(finds, tree, tmp_path):
    run_id = finds.cli_json("run", "leaves", tree, "-wait")["run"]["id"]
    name = next(a["name"] for a in finds.cli_json("artifacts", run_id)["artifacts"] if a["name"].endswith("x.txt"))
    finds.cli("artifacts", run_id, name, "-o", tmp_path / "one")
    assert (tmp_path / "one" / name).read_text() == "one\n"
    finds.cli("artifacts", run_id, "-all", "-o", tmp_path / "all")
    assert (tmp_path / "all" / name).exists()
    assert not list((tmp_path / "all").rglob("*.part"))
    finds.cli("artifacts", run_id, "nope", "-o", tmp_path, check=2)


@pytest.mark.parametrize("command", ["runs", "workers", "queue", "targets", "version", "workflow list", "workflow show finds"])
def test_json_everywhere(finds, command):
    assert finds.cli_json(*command.split())
    assert finds.cli(*command.split()).stdout


def test_workflows_are_listed_by_name(finds):
    names = [w["name"] for w in finds.cli_json("workflow", "list")["workflows"]]
    assert len(names) >= 4 and names == sorted(names)


def test_tables_fit_the_width(finds, tree):
    finds.cli("run", "finds", tree, "-wait")
    for line in finds.cli("runs", env={"COLUMNS": "60"}).stdout.splitlines():
        assert len(line) <= 60


def test_pages_are_followed(finds, tree):
    target = finds.cli_json("run", "typed", tree, "-wait")["run"]["target"]["id"]
    ids = {finds.cli("run", "typed", target, "-detach", "-label", "page=yes").stdout.strip() for _ in range(5)}
    assert {r["id"] for r in finds.cli_json("runs", "-label", "page=yes", "-limit", "0")["runs"]} == ids
    assert len(finds.cli_json("runs", "-label", "page=yes", "-limit", "2")["runs"]) == 2


def test_workflow_validate_and_push(finds, tmp_path):
    folder = tmp_path / "pushed"
    folder.mkdir()
    (folder / "main.sh").write_text("exit 0\n")
    text = "vertical: story\nversion: \"1.0.0\"\ndescription: d\nsteps:\n  - name: main\n    run: [\"sh\", \"${WORKFLOW_DIR}/main.sh\"]\n"
    (folder / "metadata.yaml").write_text(text)
    assert "pushed is valid" in finds.cli("workflow", "validate", folder).stdout
    assert json.loads(finds.cli("workflow", "validate", "-json", folder, tmp_path / "none", check=1).stdout) == [
        {"dir": str(folder), "valid": True, "name": "pushed"},
        {"dir": str(tmp_path / "none"), "valid": False, "reason": f"{tmp_path}/none: No such file or directory"}]
    finds.cli("workflow", "push", folder)
    assert finds.cli_json("workflow", "show", "pushed")["workflow"]["source"] == "push"
    (folder / "metadata.yaml").write_text(text + "nope: 1\n")
    done = finds.cli("workflow", "validate", folder, check=1)
    assert "metadata.yaml:7" in done.stderr and "nope" in done.stderr
    finds.cli("workflow", "push", folder, check=2)
    (folder / "metadata.yaml").write_text(text.replace("main.sh", "gone.sh"))
    assert "gone.sh" in finds.cli("workflow", "validate", folder, check=1).stderr


# Ctrl-C and restarts ------------------------------------------------------------------------------------------------


def submitted(process):
    """The id of the run that a waiting drover tells on stderr."""
    for line in process.stderr:
        found = re.match(rb"Submitted (\S+)", line)
        if found:
            return found[1].decode()
    raise AssertionError("nothing was submitted")


def test_ctrl_c_without_a_terminal_lets_the_run_go_on(embedded, toolbox, tree):
    toolbox.add("holds", HOLD)
    wait.until("the workflow", lambda: embedded.call("GET", "/v1/workflow/holds").status == 200)
    process = cli_process(embedded, "run", "holds", tree, "-wait", stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    run_id = submitted(process)
    reached(embedded, run_id)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and b"goes on" in err
    assert embedded.run(run_id)["state"] == "running"
    embedded.cli("cancel", run_id, "-reason", "enough")
    embedded.wait_run(run_id, "canceled")


def test_events_that_break_off_are_told(embedded_rig, toolbox, tree):
    toolbox.add("finds", REPORT)
    drover = Drover(embedded_rig, toolbox).start()
    try:
        wait.until("the workflow", lambda: drover.call("GET", "/v1/workflow/finds").status == 200)
        run = drover.cli("run", "finds", tree, "-detach").stdout.strip()
        followers = [cli_process(drover, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for words in (["events"], ["events", "-f", run])]
        assert followers[1].stdout.readline().endswith(b" queued\n")
        # Of all runs nothing is told that was before: one after the other, until it listens.
        wait.until("an event", lambda: drover.cli("run", "finds", tree, "-detach") and
                   select.select([followers[0].stdout], [], [], 0.2)[0])
    finally:
        drover.close()
    for process in followers:
        _, err = process.communicate(timeout=30)
        assert process.returncode == 2 and err.startswith(b"Error: "), err


@pytest.mark.parametrize("answer, state", [("n\n", "canceled"), ("y\n", "running")])
def test_ctrl_c_on_a_terminal_asks(embedded, toolbox, tree, answer, state):
    toolbox.add("holds", HOLD)
    wait.until("the workflow", lambda: embedded.call("GET", "/v1/workflow/holds").status == 200)
    ours, theirs = pty.openpty()
    process = cli_process(embedded, "run", "holds", tree, "-wait", env={"TERM": "xterm"}, stdin=theirs, stdout=theirs,
                          stderr=theirs, start_new_session=True)
    os.close(theirs)
    seen = b""
    while not (told := re.search(rb"Submitted (\S+)\s", seen)):
        seen += os.read(ours, 4096)
    run_id = told[1].decode()
    reached(embedded, run_id)
    process.send_signal(signal.SIGINT)
    while b"[Y/n]" not in seen:
        seen += os.read(ours, 4096)
    os.write(ours, answer.encode())
    # The terminal is read until its other side is closed: else the process might wait to be read.
    while True:
        try:
            seen += os.read(ours, 4096)
        except OSError:
            break
    assert process.wait(20) == 130
    os.close(ours)
    assert embedded.wait_run(run_id, state)["state"] == state
    embedded.call("POST", f"/v1/run/{run_id}/cancel")


def test_waiting_outlives_the_dispatcher(embedded, toolbox, tree):
    toolbox.add("holds", HOLD + REPORT)
    wait.until("the workflow", lambda: embedded.call("GET", "/v1/workflow/holds").status == 200)
    process = cli_process(embedded, "run", "holds", tree, "-fail-on", "error", stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    run_id = submitted(process)
    reached(embedded, run_id)
    embedded.kill9()
    line = b""
    while b"does not answer" not in line:
        line = process.stderr.readline()
        assert line
    embedded.start()
    go_on(embedded, run_id)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and b"is back" in err and b"a.txt:1" in out


# A server that lies -------------------------------------------------------------------------------------------------


class Liar(BaseHTTPRequestHandler):
    """Answers each path with what the test put into the server's table."""

    def do_GET(self):
        body = self.server.answers.get(self.path.split("?")[0])
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture(name="liar")
def liar_fixture():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    server.answers = {}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ask_liar(drover, liar, *args, **options):
    return drover.cli(*args, env={"DROVER_ADDR": f"http://127.0.0.1:{liar.server_port}"}, **options)


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "..", "", "a\nb"])
def test_artifacts_stay_below_their_directory(finds, liar, tmp_path, name):
    data = b"evil"
    liar.answers["/v1/run/r/artifacts"] = {
        "artifacts": [{"name": name, "size_bytes": 4, "sha256": hashlib.sha256(data).hexdigest()}]}
    liar.answers[f"/v1/run/r/artifact/{name}"] = data
    (tmp_path / "in").mkdir()
    ask_liar(finds, liar, "artifacts", "r", "-all", "-o", tmp_path / "in", check=2)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [] and not os.path.exists("/tmp/evil")


def test_an_artifact_with_a_wrong_digest_is_not_kept(finds, liar, tmp_path):
    liar.answers["/v1/run/r/artifacts"] = {"artifacts": [{"name": "a", "size_bytes": 4, "sha256": "0" * 64}]}
    liar.answers["/v1/run/r/artifact/a"] = b"evil"
    ask_liar(finds, liar, "artifacts", "r", "a", "-o", tmp_path, check=2)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("answer", [{}, {"version": "2.1.0"}, b"", b"<html>", {"version": "2.1.0", "runs": [{"results": 1}]}])
def test_findings_that_cannot_be_read_are_never_clean(finds, liar, tmp_path, answer):
    liar.answers["/v1/run/r/findings"] = answer
    done = ask_liar(finds, liar, "findings", "r", "-sarif", tmp_path / "out", check=2)
    assert "no findings" not in done.stdout and os.listdir(tmp_path) == []


def test_nothing_from_a_server_acts_on_the_terminal(finds, liar):
    evil = "\033]0;owned\007\033[2J\u202ex"
    liar.answers["/v1/runs"] = {"runs": [{"id": evil, "state": evil, "target": {"name": evil}, "reason": evil}]}
    liar.answers["/v1/run/r/findings"] = {"version": "2.1.0", "runs": [
        {"tool": {"driver": {"name": evil}}, "results": [{"ruleId": evil, "message": {"text": evil}}]}]}
    for args in (["runs"], ["findings", "r"], ["runs", "-json"]):
        done = ask_liar(finds, liar, *args)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", done.stdout), args


# init ---------------------------------------------------------------------------------------------------------------


def test_init_makes_tokens_that_work(embedded_rig, toolbox, finds, tmp_path):
    data = tmp_path / "data"
    tokens = finds.cli_json("init", "-data-dir", data)["tokens"]
    file = data / "tokens.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert not any(token in file.read_text() for token in tokens.values())
    assert "is there already" in finds.cli("init", "-data-dir", data, check=2).stderr
    drover = Drover(embedded_rig, toolbox, {"DROVER_TOKENS_FILE": str(file)}).start()
    try:
        assert "Hint:  send Authorization: Bearer TOKEN (DROVER_TOKEN" in drover.cli("runs", check=2).stderr
        assert "Hint:  it is another dispatcher's" in drover.cli("runs", env={"DROVER_TOKEN": "drover_none"}, check=2).stderr
        for name, code, manages in (("admin", 0, 200), ("analyst", 0, 403), ("worker", 2, 403), ("autoscale", 2, 200)):
            drover.cli("runs", env={"DROVER_TOKEN": tokens[name]}, check=code)
            assert drover.call("GET", "/v1/history", headers={"Authorization": f"Bearer {tokens[name]}"}).status == manages, name
        # The token as password of the address.
        drover.cli("runs", env={"DROVER_ADDR": drover.url.replace("//", f"//me:{tokens['analyst']}@")})
        fresh = finds.cli_json("init", "-data-dir", data, "-force")["tokens"]
        # The dispatcher looks at the file every few seconds.
        wait.until("the new tokens", lambda: drover.cli("runs", env={"DROVER_TOKEN": fresh["analyst"]}, check=False).returncode == 0)
        drover.cli("runs", env={"DROVER_TOKEN": tokens["analyst"]}, check=2)
    finally:
        drover.close()


def test_init_prints_what_nomad_needs(finds, tmp_path):
    done = finds.cli("init", "-data-dir", tmp_path / "d")
    assert "nomad var put -force nomad/jobs/drover-run-VERTICAL " in done.stdout and "DROVER_TOKEN=drover_" in done.stdout
    token = dict(re.findall(r"^  (\w+) +(drover_\w+)  for ", done.stdout, re.M))["autoscale"]
    assert f"nomad var put -force nomad/jobs/drover-autoscale \\\n      DROVER_TOKEN={token}\n" in done.stdout


# dev ----------------------------------------------------------------------------------------------------------------


class Dev:
    """A running `drover dev`."""

    def __init__(self, rig, toolbox, *args):
        env = environment(rig, {"HOME": rig.folder, "DROVER_TOOLCHAINS": toolbox.toolchains})
        self.env = env
        self.process = subprocess.Popen(
            [binaries.drover("drover"), "dev", "-json", "-listen", "127.0.0.1:0", "-toolbox", toolbox.folder, *map(str, args)],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.said = json.loads(self.process.stdout.readline() or self.process.stderr.read())

    def cli(self, *args):
        return subprocess.run([binaries.drover("drover"), *map(str, args)], env={**self.env, "DROVER_ADDR": self.said["address"]},
                              capture_output=True, text=True, timeout=60, check=False)

    def children(self):
        """{program: pid} of its child processes."""
        found = {}
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/children", encoding="ascii") as file:
                for pid in file.read().split():
                    found[os.path.basename(os.readlink(f"/proc/{pid}/exe"))] = int(pid)
        return found


def gone(pids):
    return all(not os.path.exists(f"/proc/{pid}") for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_dev_runs_everything_and_leaves_nothing(embedded_rig, toolbox, tree, number):
    toolbox.add("finds", REPORT)
    dev = Dev(embedded_rig, toolbox, "-ephemeral")
    done = dev.cli("run", "finds", tree, "-fail-on", "error")
    assert done.returncode == 1 and "a.txt:1" in done.stdout, done.stderr
    pids = dev.children().values()
    assert len(pids) == 2
    dev.process.send_signal(number)
    assert dev.process.wait(30) == 0
    assert gone(pids) and not os.path.exists(dev.said["data_dir"])


def test_dev_has_workers_and_workflows_once_it_speaks(embedded_rig, toolbox, tree):
    toolbox.add("finds", REPORT)
    dev = Dev(embedded_rig, toolbox, "-ephemeral")
    assert "drover-worker" in dev.children()
    assert dev.cli("run", "finds", tree, "-wait").returncode == 0
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(30) == 0


def test_dev_starts_again_what_died(embedded_rig, toolbox, tree, tmp_path):
    toolbox.add("finds", REPORT)
    dev = Dev(embedded_rig, toolbox, "-data-dir", tmp_path / "dev")
    wait.until("a worker", lambda: "drover-worker" in dev.children())
    for name in ("drover-worker", "drover-dispatcher"):
        old = dev.children()[name]
        os.kill(old, signal.SIGKILL)
        wait.until(f"another {name}", lambda: dev.children().get(name, old) != old, 30)
    wait.until("a dispatcher", lambda: dev.cli("workers").returncode == 0, 30)
    assert dev.cli("run", "finds", tree, "-wait").returncode == 0
    other = subprocess.run([binaries.drover("drover"), "dev", "-listen", "127.0.0.1:0", "-data-dir", tmp_path / "dev", "-toolbox",
                            toolbox.folder],
                           env=dev.env, capture_output=True, text=True, timeout=30, check=False)
    assert other.returncode == 2 and "another `drover dev`" in other.stderr
    pids = dev.children().values()
    dev.process.kill()
    dev.process.wait(30)
    wait.until("its children to end with it", lambda: gone(pids), 30)


def test_dev_gives_up_on_a_dispatcher_that_keeps_dying(embedded_rig, toolbox):
    toolbox.add("finds", REPORT)
    dev = Dev(embedded_rig, toolbox, "-ephemeral")
    old = 0
    for _ in range(5):
        old = wait.until("another dispatcher", lambda old=old: (pid := dev.children().get("drover-dispatcher", old)) != old and pid, 30)
        os.kill(old, signal.SIGKILL)
    assert dev.process.wait(60) == 2
    said = dev.process.stderr.read().decode()
    assert "5 times in a row" in said and "end of " in said and not os.path.exists(dev.said["data_dir"])
