"""What autoscalers use of the dispatcher, without Nomad: figures, drain marks, history, and its replay."""

import json
import os
import subprocess
import threading

from rig import binaries
from rig.toolbox import REPORT, VERTICAL


def figures(drover, **query):
    answer = drover.call("GET", "/v1/scale" + "".join(f"{'&' if i else '?'}{k}={v}" for i, (k, v) in enumerate(query.items())))
    shown = answer.expect(200).json()["verticals"]
    return next(one for one in shown if one["vertical"] == VERTICAL), int(answer.headers["x-drover-index"])


def run_some(drover, toolbox, number):
    toolbox.add("finds", REPORT)
    target = drover.upload({"a.txt": "x\n"})
    runs = [drover.submit("finds", target)["id"] for _ in range(number)]
    return [drover.wait_run(run_id, "completed") for run_id in runs]


def test_figures_follow_the_queue_and_the_read_blocks(embedded, toolbox):
    before, index = figures(embedded)
    assert before["warm_ready"] == 0 and len(before["workers"]) == 1 and before["slots"] > 0
    told = {}
    reader = threading.Thread(target=lambda: told.update(answer=figures(embedded, index=index, wait="60s")))
    reader.start()
    run_some(embedded, toolbox, 3)
    reader.join(20)
    assert not reader.is_alive() and told["answer"][1] > index
    after, _ = figures(embedded)
    assert after["arrivals_total"] - before["arrivals_total"] == 3
    assert after["served_total"] - before["served_total"] == 3
    assert after["service_ms_mean"] > 0


def test_drain_requests_are_checked(embedded):
    def drain(**body):
        return embedded.call("POST", f"/v1/scale/{VERTICAL}/drain", json=body)

    whole = {"owner": "test", "allocs": ["0f" * 18], "ttl_s": 5}
    answer = drain(**whole).expect(200).json()
    assert answer == {"workers": [], "unknown": ["0f" * 18]}
    assert drain(**{**whole, "condemn": True}).status == 200
    assert drain(**{**whole, "allocs": []}).expect(200).json() == {"workers": [], "unknown": []}
    for wrong in ({"owner": ""}, {"owner": "x" * 25}, {"allocs": [""]}, {"allocs": [7]}, {"allocs": ["x" * 40]}, {"allocs": "x"},
                  {"ttl_s": 0}, {"ttl_s": 3601}, {"condemn": "yes"}, {"more": 1}):
        assert drain(**{**whole, **wrong}).status == 400, wrong
    assert drain(**{**whole, "allocs": ["a"] * 1025}).status == 413
    assert embedded.call("POST", f"/v1/scale/{'v' * 60}/drain", json=whole).status == 400


def test_history_is_exported_by_pages_and_replayed(embedded, toolbox):
    done = run_some(embedded, toolbox, 5)
    pages, query = [], f"vertical={VERTICAL}&limit=2"
    token = ""
    while token is not None:
        page = embedded.call("GET", f"/v1/history?{query}" + (f"&next_token={token}" if token else "")).expect(200).json()
        pages.append(page)
        token = page.get("next_token")
    runs = [run for page in pages for run in page["runs"]]
    assert len(runs) == len(done) and len(pages) >= 3
    assert all(run["created_ms"] <= run["started_ms"] <= run["finished_ms"] for run in runs)
    assert embedded.get("/v1/history", vertical="other")["runs"] == []
    path = os.path.join(embedded.folder, "history.json")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(page) + "\n" for page in pages)
    svg = os.path.join(embedded.folder, "out.svg")
    command = [binaries.drover("drover-autoscale"), "simulate", "-history", path, "-vertical", VERTICAL, "-svg", svg]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 0, told.stderr
    assert f"history of {VERTICAL}"[:14] in told.stdout and "drover" in told.stdout
    with open(svg, encoding="utf-8") as file:
        assert file.read().startswith("<svg")
    refused = subprocess.run([*command[:3], "/nonexistent"], capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 1 and "/nonexistent" in refused.stderr
