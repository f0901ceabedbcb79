"""The instruments and the file of figures, without servers."""

import copy
import http.server
import json
import os
import subprocess
import tarfile
import threading
import time

import pytest
from figures import burst, demo, instruments, table, upload, workspace
from figures.__main__ import part
from figures.rows import FIGURES, Rows, percentile, validate

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture(name="tools", scope="module")
def tools_fixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    for name in ("stamp", "load"):
        subprocess.run(
            ["gcc", "-std=c17", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", f"{name}.c",
             "exchange.c", "-o", str(folder / name)],
            cwd=HERE, check=True,
        )
    return instruments.Instruments(str(folder))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):  # noqa: N802 - the base class's name
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server = self.server
        with server.lock:
            server.bodies.append(body)
            server.connections.add(self.client_address)
            server.headers_seen.append(dict(self.headers))
            status = server.statuses.pop(0) if server.statuses else 201
            server.arrived_ns.append(time.monotonic_ns())
        if server.delay.wait(server.delay_s):
            return
        answer = b'{"echo": "yes"}'
        self.send_response(status)
        if server.closing:
            self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_PUT = do_GET = do_POST  # noqa: N815


@pytest.fixture(name="server")
def server_fixture():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.lock, server.delay, server.delay_s, server.closing = threading.Lock(), threading.Event(), 0, False
    server.bodies, server.connections, server.headers_seen = [], set(), []
    server.statuses, server.arrived_ns = [], []
    server.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


# The programs --------------------------------------------------------------------------------------------------------


def test_stamp_tells_when_it_began(tools):
    before_ns = time.monotonic_ns()
    text = subprocess.run([tools.stamp], capture_output=True, text=True, check=True).stdout
    assert before_ns < instruments.stamp_in(f"noise\n{text}more\n") < time.monotonic_ns()
    assert instruments.stamp_in("no stamp") is None


def test_stamp_goes_into_a_file(tools, tmp_path):
    before_ns = time.monotonic_ns()
    subprocess.run([tools.stamp, "to", str(tmp_path / "stamp")], check=True)
    assert before_ns < instruments.stamp_in((tmp_path / "stamp").read_text()) < time.monotonic_ns()
    assert subprocess.run([tools.stamp, "to", "/nowhere/stamp"], capture_output=True, check=False).returncode == 1


def test_stamp_is_before_the_request_arrives(tools, server):
    before_ns = time.monotonic_ns()
    sent_ns, answer = tools.post(server.address, "/x", {"a": 1})
    assert before_ns < sent_ns < server.arrived_ns[0]
    assert answer == {"echo": "yes"}
    assert json.loads(server.bodies[0]) == {"a": 1}


def test_post_refuses_other_answers(tools, server):
    server.statuses = [503]
    with pytest.raises(AssertionError, match="503"):
        tools.post(server.address, "/x", {})


def test_waiting_ends_with_the_first_200(tools, server):
    server.statuses = [503, 503, 200]
    asking = tools.until_200(server.address, "/health", 10000)
    out, problem = asking.communicate(timeout=20)
    assert asking.returncode == 0, problem
    assert len(server.bodies) == 3 and int(out) > server.arrived_ns[2]


def test_waiting_gives_up(tools, server):
    server.statuses = [503] * 100000
    asking = tools.until_200(server.address, "/health", 50)
    assert "no answer 200" in asking.communicate(timeout=20)[1]
    assert asking.returncode == 1


def test_load_numbers_its_requests_over_kept_connections(tools, server):
    load = tools.load(server.address, "POST", "/x", "n@SEQ@/@SEQ@", 40, connections=4, first=7)
    assert sorted(server.bodies) == sorted(f"n{i}/{i}".encode() for i in range(7, 47))
    assert len(server.connections) == 4
    assert len(load.latencies_ms) == 40 and all(ms > 0 for ms in load.latencies_ms)
    assert load.per_s > 0


def test_load_measures_the_server_not_itself(tools, server):
    server.delay_s = 0.05
    for _ in range(4):  # a busy machine adds to it, but not each time
        load = tools.load(server.address, "POST", "/x", "{}", 8, connections=2)
        assert min(load.latencies_ms) >= 50 and load.per_s < 41
        if max(load.latencies_ms) < 150 and load.per_s > 15:
            break
    assert max(load.latencies_ms) < 150 and load.per_s > 15


def test_load_reports_failures(tools, server):
    server.statuses = [201, 503]
    with pytest.raises(AssertionError, match='1 of 10 requests failed, the first: 503 {"echo"'):
        tools.load(server.address, "POST", "/x", "{}", 10, connections=1)


def test_load_goes_on_after_a_closed_connection(tools, server):
    server.closing = True
    assert len(tools.load(server.address, "POST", "/x", "{}", 5, connections=1).latencies_ms) == 5
    assert len(server.connections) == 5


def test_load_sends_files(tools, server, tmp_path):
    content = os.urandom(300000)
    (tmp_path / "file").write_bytes(content)
    took_s = tools.send_file(server.address, "/x", str(tmp_path / "file"), ["X-One: 1", "X-Two: 2"])
    assert server.bodies == [content] and took_s > 0
    assert server.headers_seen[0]["X-One"] == "1" and server.headers_seen[0]["X-Two"] == "2"


def test_load_says_that_nobody_listens(tools):
    with pytest.raises(AssertionError, match="load: .*connect"):
        tools.load("127.0.0.1:1", "POST", "/x", "{}", 1)


# Memory --------------------------------------------------------------------------------------------------------------


def test_memory_counts_what_is_private():
    source = "import sys; b = bytearray(b'x' * 50_000_000); print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen(["python3", "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"up\n"
        private, resident = instruments.memory_mb(process.pid)
        process.stdin.close()
    assert 50 < private < 80 and resident >= private


def test_sampler_keeps_the_peak():
    values = iter([1, 5, 2, 2])
    peak = threading.Event()

    def probe():
        value = next(values, 2)
        if value == 5:
            peak.set()
        return value

    with instruments.Sampler(probe, 0.001) as sampler:
        assert peak.wait(10)
    assert sampler.max == 5


def test_upload_source_never_repeats(tmp_path):
    source = upload.Source(str(tmp_path / "source"), upload.PIECE)
    assert os.path.getsize(source.path) == upload.PIECE
    assert len({source.next() for _ in range(5)}) == 5


# Rows ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values, percent, expected",
    [([7], 99, 7), (range(1, 101), 99, 99), (range(1, 101), 50, 50), (range(1, 1001), 99, 990), ([3, 1, 2], 50, 2), ([1, 2], 100, 2)],
)
def test_percentile(values, percent, expected):
    assert percentile(values, percent) == expected


def full_rows(quick=False):
    rows = Rows(quick)
    for figure in FIGURES:
        rows.set(figure.name, 10, "somehow", figure.variant, peer=4, noise={"n": 3, "min": 9, "max": 11}, resident_mb=1)
    return rows


def row_of(rows, name, variant=""):
    return next(row for row in rows.document()["rows"] if (row["figure"], row["variant"]) == (name, variant))


def test_aims_are_judged_by_value_or_by_ratio():
    rows = full_rows()
    assert row_of(rows, "mem_dispatcher_idle_mb")["met"] is True  # 10 <= 20
    assert row_of(rows, "mem_worker_idle_mb")["met"] is False  # 10 > 8
    assert row_of(rows, "submit_20k_ratio")["met"] is False  # 2.5 > 1.5, whatever the value
    assert row_of(rows, "submit_per_s")["met"] is None
    assert row_of(rows, "leases_per_s")["met"] is False  # 10 < 5,000: the least, not the most
    rows.set("leases_per_s", 5000, "somehow")
    assert row_of(rows, "leases_per_s")["met"] is True


def test_what_is_not_measured_says_why():
    rows = Rows()
    rows.set("submit_per_s", 5, "somehow")
    rows.lack("submit_per_s", "too late to take it back")
    rows.lack("demo_s", "no demo")
    assert row_of(rows, "submit_per_s")["ours"] == 5
    assert row_of(rows, "demo_s")["how"] == "not measured: no demo" and row_of(rows, "demo_s")["ours"] is None
    assert row_of(rows, "restart_20k_ms")["how"].startswith("not measured: ")
    validate(rows.document())


def test_what_was_missed_is_told_apart_from_what_nobody_expected():
    rows = Rows(quick=True)
    rows.lack("demo_s", "a quick run leaves it out", excused=True)
    rows.set("submit_per_s", 5, "somehow")
    rows.lack("submit_per_s", "measured before")
    assert rows.missed == []
    rows.lack("submit_p50_ms", "refused")
    assert rows.missed == ["submit_p50_ms : refused"]


def test_file_is_written_whole_or_not(tmp_path):
    out = tmp_path / "bench.json"
    full_rows().write(str(out))
    assert validate(json.loads(out.read_text())) is None
    before = out.read_bytes()
    broken = full_rows()
    broken._rows[("demo_s", "")]["ours"] = float("nan")
    with pytest.raises(ValueError, match="demo_s: ours is not a finite number"):
        broken.write(str(out))
    assert out.read_bytes() == before
    assert os.listdir(tmp_path) == ["bench.json"]


@pytest.mark.parametrize(
    "spoil, reason",
    [
        (lambda d: d.update(version=2), "version"),
        (lambda d: d["rows"].pop(), "not the list of figures"),
        (lambda d: d["rows"].reverse(), "not the list of figures"),
        (lambda d: d["rows"][0].pop("how"), "missing"),
        (lambda d: d["rows"][0].update(more=1), "too many"),
        (lambda d: d["rows"][0].update(how=""), "how it was measured"),
        (lambda d: d["rows"][0].update(ours=None), "neither a value nor a reason"),
        (lambda d: d["rows"][0].update(ours=True), "not a finite number"),
        (lambda d: d["rows"][0].update(unit=None), "unit"),
    ],
)
def test_schema_refuses(spoil, reason):
    document = full_rows().document()
    validate(document)
    spoiled = copy.deepcopy(document)
    spoil(spoiled)
    with pytest.raises(ValueError, match=reason):
        validate(spoiled)


# The table -----------------------------------------------------------------------------------------------------------


def test_table_shows_values_aims_and_gaps():
    rows = Rows()
    rows.set("mem_worker_idle_mb", 9.5, "somehow", peer=290)
    rows.set("submit_per_s", 4321.4, "somehow", peer=157)
    text = table.table(rows.document())
    assert "| worker's private memory, idle, `mem_worker_idle_mb` | 9.50 MB | 290 MB | 0.03 | ≤ 8 MB, **missed** |" in text
    assert "| 4,321 1/s | 157 1/s | 27.5 |  |" in text
    assert "(docker), `dispatch_overhead_ms` | – | – | – | ≤ 40 ms, not measured |" in text


def test_table_replaces_what_is_between_the_markers(tmp_path):
    bench, page = tmp_path / "bench.json", tmp_path / "page.md"
    full_rows().write(str(bench))
    page.write_text(f"before\n{table.BEGIN}\nwas here\n{table.END}\nafter\n")
    table.main([str(bench), str(page)])
    first = page.read_text()
    assert first.startswith(f"before\n{table.BEGIN}\n| figure |") and first.endswith(f"\n{table.END}\nafter\n")
    assert "was here" not in first
    table.main([str(bench), str(page)])
    assert page.read_text() == first


@pytest.mark.parametrize("page", ["nothing", f"{table.END}{table.BEGIN}", f"{table.BEGIN}{table.BEGIN}{table.END}"])
def test_table_wants_its_markers(page):
    with pytest.raises(ValueError, match="once each"):
        table.insert(page, "text")


def test_table_refuses_a_quick_run():
    with pytest.raises(ValueError, match="quick"):
        table.table(full_rows(quick=True).document())
    partly = full_rows()
    partly.only = ("upload",)
    with pytest.raises(ValueError, match="upload alone"):
        table.table(partly.document())


def test_demo_says_why_it_did_not_measure(monkeypatch):
    rows = Rows()
    demo.measure(rows, 0)
    assert "quick" in row_of(rows, "demo_s")["how"]
    monkeypatch.setattr(demo.binaries, "ROOT", HERE)  # no Makefile here
    rows = Rows()
    demo.measure(rows, 1)
    assert "no `make demo`" in row_of(rows, "demo_s")["how"]


def test_a_part_that_fails_leaves_a_reason_and_the_rest_goes_on(capsys):
    rows = Rows()
    failures = (AssertionError("no\n  run"), ConnectionError("refused"), subprocess.TimeoutExpired("make", 5))
    for problem, figure in zip(failures, ("submit_per_s", "submit_p50_ms", "demo_s")):
        with part(rows, "a part", (figure, "")):
            raise problem
    assert row_of(rows, "submit_per_s")["how"] == "not measured: no run"
    assert row_of(rows, "submit_p50_ms")["how"] == "not measured: refused"
    assert "timed out" in row_of(rows, "demo_s")["how"]
    assert "a part: refused" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        with part(rows, "a part"):
            raise KeyboardInterrupt


def test_workspace_tree_is_the_same_each_time(tmp_path):
    for name in ("a.tar", "b.tar"):
        workspace.write_tree(str(tmp_path / name), 250)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as archive:
        assert len(archive.getnames()) == len(set(archive.getnames())) == 250


def test_workspaces_without_root_say_why(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    rows = Rows()
    workspace.measure(None, rows)
    assert not rows.missed
    assert "root" in row_of(rows, "workspace_copy_ratio")["how"]


def test_workspace_rows_compare_with_the_right_peer(tmp_path, monkeypatch):
    class Spaces:
        def __init__(self, *_):
            pass

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda *_: None  # noqa: E731

        def cycle(self, used=False):
            return (0.002, 0.001, 0.1 if used else 0.01)

        def copy(self):
            return (0.8, 0.2)

    monkeypatch.setattr(workspace, "Workspaces", Spaces)
    rows = Rows()
    workspace.measure_overlay(None, rows, str(tmp_path), "", "somewhere")
    workspace.measure_copy(None, rows, "workspace_copy_ratio", "copy", str(tmp_path), "", "somewhere")
    assert row_of(rows, "workspace_overlay_ms")["ours"] == 2 and row_of(rows, "workspace_overlay_ms")["met"] is True
    cycle = row_of(rows, "workspace_cycle_ratio")
    assert cycle["ratio"] == pytest.approx(0.102) and cycle["beside"]["report_held_up_ms"] == 1  # deleting counts, on both sides
    assert row_of(rows, "workspace_copy_ratio")["ratio"] == pytest.approx(0.0025)


def step(second, state):
    return {"at": f"2026-01-01T00:00:{second:06.3f}Z", "state": state}


def test_a_run_that_was_handed_back_counts_as_killed_with_what_it_lost():
    smooth = {"state": "completed", "attempt": 1, "history": [step(0, "queued"), step(1, "running"), step(9, "completed")]}
    begun = [step(0, "queued"), step(1, "running"), step(3.5, "queued"), step(4, "running")]
    twice = {"state": "completed", "attempt": 2, "history": [*begun, step(9, "completed")]}
    failed = {"state": "failed", "attempt": 1, "history": [step(0, "queued"), step(1, "running"), step(9, "failed")]}
    assert [burst.disturbed(run) for run in (smooth, twice, failed)] == [False, True, True]
    assert [burst.lost_seconds(run) for run in (smooth, twice, failed)] == [0, 2.5, 0]


@pytest.mark.parametrize("quick", [False, True])
def test_bursts_compare_with_the_right_peer(monkeypatch, quick):
    def play(_, plan):
        one = lambda *values: [burst.Burst(*values)] * plan.turns  # noqa: E731
        found = {"ours": one(20, 100, 0, 0), "peer": one(25, 125, 1, 7), "hurried": one(40, 90, 4, 60)}
        return {name: found[name] for name in found if name != "hurried" or not quick}

    monkeypatch.setattr(burst, "play", play)
    rows = Rows(quick)
    burst.measure(type("World", (), {"quick": quick}), rows)
    drain, spent, killed = (row_of(rows, f"burst_{name}") for name in ("drain_ratio", "worker_seconds_ratio", "killed"))
    assert drain["ratio"] == spent["ratio"] == 0.8
    assert drain["beside"].get("peer_hurried") == (None if quick else 80) and drain["ours"] == (20 if quick else 40)
    assert killed["ours"] == 0 and killed["met"] is True and killed["beside"]["peer_lost_s"] == (7 if quick else 14)


def test_a_burst_is_the_same_for_all_and_has_some_that_outlast_the_grace():
    for plan in (burst.PLAN, burst.QUICK):
        assert plan.order(1) == plan.order(1) != plan.order(2)
        assert sorted(plan.order(1)) == sorted(plan.order(2)) and len(plan.order(1)) == plan.runs
        assert max(plan.lengths_s) > 3 * float(plan.grace.rstrip("s"))
        assert plan.grace in ("5s", "2s")
