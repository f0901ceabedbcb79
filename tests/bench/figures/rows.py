"""The figures as rows: what there is to measure, what was measured, and the file that tells it."""

import dataclasses
import json
import math
import os
import platform
import statistics
import tempfile
import time

VERSION = 1


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of the list below. aim: most that `of` ("ours" or "ratio") may be (least: the least), None for figures without."""

    name: str
    unit: str
    text: str
    aim: float | None = None
    of: str = "ours"
    variant: str = ""
    least: bool = False

    @property
    def key(self):
        return (self.name, self.variant)


# Every row of bench.json, in this order, measured or not.
FIGURES = (
    Figure("dispatch_overhead_ms", "ms", "submit → tool starts, beyond a bare dispatch", 40, variant="raw_exec"),
    Figure("dispatch_overhead_ms", "ms", "submit → tool starts, beyond a bare dispatch", 40, variant="docker"),
    Figure("submit_per_s", "1/s", "durable submissions, 16 clients"),
    Figure("submit_p50_ms", "ms", "submission, median"),
    Figure("submit_p99_ms", "ms", "submission, 99th percentile"),
    Figure("submit_20k_ratio", "", "submission's 99th percentile with 20,000 queued", 1.5, of="ratio"),
    Figure("children_max_20k", "jobs", "most live children in Nomad meanwhile", 1.0, of="ratio"),
    Figure("mem_dispatcher_idle_mb", "MB", "dispatcher's private memory, idle", 20),
    Figure("mem_dispatcher_20k_mb", "MB", "dispatcher's private memory, 20,000 queued"),
    Figure("mem_worker_idle_mb", "MB", "worker's private memory, idle", 8),
    Figure("restart_20k_ms", "ms", "dispatcher's restart, 20,000 runs in the ledger", 1000),
    Figure("upload_1g_ratio", "s", "1 GiB into MinIO, digest verified", 1.3, of="ratio"),
    Figure("upload_1g_ratio", "s", "the same, digest not announced", variant="unannounced"),
    Figure("upload_mem_growth_mb", "MB", "dispatcher's memory growth meanwhile", 32),
    Figure("fetch_1g_ratio", "s", "cold fetch of 1 GiB, verified and durable in the cache", 1.0, of="ratio"),
    Figure("fetch_1g_ratio", "s", "the same with 64 MiB", 1.0, of="ratio", variant="64m"),
    Figure("fetch_1g_nosync_ratio", "s", "cold fetch of 1 GiB, verified, without fsync", 1.2, of="ratio"),
    Figure("fetch_1g_nosync_ratio", "s", "the same with 64 MiB", 1.2, of="ratio", variant="64m"),
    Figure("fetch_small_per_s", "1/s", "fetches of 64 KiB, verified and durable"),
    Figure("put_1g_ratio", "s", "a file of 1 GiB into MinIO", 1.0, of="ratio"),
    Figure("single_flight_bytes_ratio", "MiB", "read from MinIO for 64 concurrent runs of one target", 1.0, of="ratio"),
    Figure("workspace_overlay_ms", "ms", "cached target of 20,000 files to ready workspace, overlay", 10),
    Figure("workspace_reflink_ratio", "s", "the same by reflink on XFS", 1.0, of="ratio"),
    Figure("workspace_copy_ratio", "s", "the same by copy", 1.0, of="ratio"),
    Figure("workspace_cycle_ratio", "s", "workspace ready and torn down", 0.3, of="ratio"),
    Figure("extract_targz_ratio", "s", "tar.gz of 20,000 files unpacked, confined", 1.0, of="ratio"),
    Figure("extract_zip_ratio", "s", "zip of 20,000 files unpacked, confined", 1.0, of="ratio"),
    Figure("evict_us_per_entry", "µs", "eviction from a cache of 100,000 entries, an entry", 1.5, of="ratio"),
    Figure("worker_mem_peak_mb", "MB", "worker's private memory, peak over all of this", 32),
    Figure("warm_start_p50_ms", "ms", "submit → tool starts, idle warm worker, median", 10),
    Figure("warm_start_p99_ms", "ms", "submit → tool starts, idle warm worker, 99th percentile", 50),
    Figure("real_runs_ratio", "1/s", "whole runs, sandboxed, results in MinIO", 10, of="ratio", least=True),
    Figure("leases_per_s", "1/s", "submit, lease and report through the durable queue", 5000, least=True),
    Figure("queued_100k_ratio", "ms", "submit's and lease's 99th percentile with 100,000 queued", 1.5, of="ratio"),
    Figure("mem_100k_mb", "MB", "dispatcher's private memory, 100,000 queued", 120),
    Figure("scale_reaction_p99_ms", "ms", "queue jump → scale call, 99th percentile", 1000),
    Figure("burst_drain_ratio", "s", "a burst's time to drain", 1.0, of="ratio"),
    Figure("burst_worker_seconds_ratio", "s", "worker-seconds of the burst", 1.0, of="ratio"),
    Figure("burst_killed", "runs", "runs killed by scaling meanwhile", 0),
    Figure("demo_s", "s", "make demo", 120),
)

FIELDS = {
    "figure": str, "variant": str, "ours": float, "peer": float, "ratio": float, "unit": str, "text": str, "how": str,
    "aim": float, "aim_of": str, "aim_least": bool, "met": bool, "noise": dict, "beside": dict,
}
NULLABLE = ("ours", "peer", "ratio", "aim", "met", "noise")


def percentile(values, percent):
    """The smallest value that at least so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def noise(values):
    """Of how many repetitions, and how far they were apart."""
    return {"n": len(values), "min": min(values), "median": statistics.median(values), "max": max(values)}


class Rows:
    """Collects values by figure; a figure that nobody set says why."""

    def __init__(self, quick=False, only=()):
        self.quick = quick
        self.only = only  # parts to measure, () for all; then quick or not, it is no full run
        # Whoever compares two runs must see which of them had the machine for itself.
        self._load_before = os.getloadavg()[0]
        self._rows = {}
        self.missed = []  # figures that should have been measured: "name variant: reason"
        self._figures = {figure.key: figure for figure in FIGURES}

    def set(self, name, ours, how, variant="", peer=None, ratio=None, noise=None, **beside):
        """A measured figure. ratio: ours / peer unless given. beside: more numbers that belong to it."""
        figure = self._figures[(name, variant)]
        if ratio is None and peer:
            ratio = ours / peer
        judged = ours if figure.of == "ours" else ratio
        met = None if figure.aim is None or judged is None else figure.aim <= judged if figure.least else judged <= figure.aim
        self._put(figure, ours, peer, ratio, how, met, noise, beside)

    def lack(self, name, reason, variant="", excused=False):
        """A figure that could not be measured, unless it was set before. excused: nobody could have expected it here."""
        figure = self._figures[(name, variant)]
        if figure.key not in self._rows:
            if not excused:
                self.missed.append(f"{name} {variant}: {reason}")
            self._put(figure, None, None, None, f"not measured: {reason}", None, None, {})

    def _put(self, figure, ours, peer, ratio, how, met, spread, beside):
        def number(value):
            return None if value is None else round(float(value), 4)

        def numbers(values):
            return {name: number(value) for name, value in values.items()}

        self._rows[figure.key] = {
            "figure": figure.name,
            "variant": figure.variant,
            "ours": number(ours),
            "peer": number(peer),
            "ratio": number(ratio),
            "unit": figure.unit,
            "text": figure.text,
            "how": how,
            "aim": number(figure.aim),
            "aim_of": figure.of,
            "aim_least": figure.least,
            "met": met,
            "noise": numbers(spread) if spread else None,
            "beside": numbers(beside),
        }

    def document(self):
        for figure in FIGURES:
            self.lack(figure.name, "nothing measured it", figure.variant)
        return {
            "version": VERSION,
            "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "quick": self.quick,
            "only": list(self.only),
            "machine": {
                "cpus": os.cpu_count(),
                "kernel": platform.release(),
                "system": platform.machine(),
                "load_before": round(self._load_before, 2),
            },
            "rows": [self._rows[figure.key] for figure in FIGURES],
        }

    def write(self, path):
        """Complete or not at all."""
        document = self.document()
        validate(document)
        folder = os.path.dirname(os.path.abspath(path))
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".bench-", delete=False, encoding="utf-8") as file:
            json.dump(document, file, indent=1, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
        os.rename(file.name, path)


def validate(document):
    """ValueError when the document is not what Rows writes."""
    if document.get("version") != VERSION:
        raise ValueError(f"version {document.get('version')}, not {VERSION}")
    keys = [(row.get("figure"), row.get("variant")) for row in document["rows"]]
    if keys != [figure.key for figure in FIGURES]:
        raise ValueError(f"rows {keys} are not the list of figures")
    for row in document["rows"]:
        _validate_row(row)


def _validate_row(row):
    if set(row) != set(FIELDS):
        raise ValueError(f"{row.get('figure')}: fields {sorted(set(row) ^ set(FIELDS))} too many or missing")
    for name, kind in FIELDS.items():
        value = row[name]
        if value is None and name in NULLABLE:
            continue
        if kind is float and (isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value)):
            raise ValueError(f"{row['figure']}: {name} is not a finite number: {value!r}")
        if kind is not float and not isinstance(value, kind):
            raise ValueError(f"{row['figure']}: {name} is not {kind.__name__}: {value!r}")
    if not row["how"]:
        raise ValueError(f"{row['figure']}: does not say how it was measured")
    if row["ours"] is None and not row["how"].startswith("not measured: "):
        raise ValueError(f"{row['figure']}: neither a value nor a reason")
