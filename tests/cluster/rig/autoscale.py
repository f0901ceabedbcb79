"""drover-autoscale under test, and Nomad's own autoscaler beside it."""

import os
import secrets

from . import binaries, wait
from .server import Server


class Autoscaler(Server):
    """drover-autoscale for one dispatcher (a Drover). settings: more environment."""

    def __init__(self, drover, **settings):
        super().__init__(drover.rig, f"scale-{secrets.token_hex(3)}")
        self.drover = drover
        self.ports = {"http": self.rig.ports.take()}
        self.settings = {
            **self.rig.env(),
            "NOMAD_NAMESPACE": drover.namespace,
            "DROVER_ADDR": drover.url,
            "AUTOSCALE_LISTEN": self.address,
            "LOG_LEVEL": "debug",
            **{name: str(value) for name, value in settings.items()},
        }

    def argv(self):
        return [binaries.drover("drover-autoscale")]

    def env(self):
        return self.settings

    def is_ready(self):
        return self.call("GET", "/v1/agent/health").status == 200

    def leads(self):
        return self.call("GET", "/v1/agent/health").expect(200, 503).json()["leader"]

    def decisions(self, **wanted):
        """Decisions, newest first, with these values."""
        shown = self.get("/v1/decisions", limit=512)["decisions"]
        return [one for one in shown if all(one.get(key) == value for key, value in wanted.items())]

    def group(self, job="drover-workers-story"):
        """The last look at a group, or None."""
        return next((one for one in self.get("/v1/decisions")["groups"] if one["job"] == job), None)

    def wait_decision(self, what, timeout_s=60.0, **wanted):
        return wait.until(what, lambda: self.decisions(**wanted), timeout_s, self.process.exit_reason)[0]

    def metric(self, name, **labels):
        """The sum of the samples of a metric that carry these labels, 0 when there is none."""
        total = 0.0
        for line in self.call("GET", "/metrics").expect(200).text.splitlines():
            head, _, value = line.rpartition(" ")
            if head.split("{")[0] == name and all(f'{key}="{text}"' in head for key, text in labels.items()):
                total += float(value)
        return total


STOCK = os.path.join(binaries.ROOT, "nomad-jobs", "stock-autoscaler")

WRAPPED = """
job "x" {
  group "g" {
%s
    task "t" {
      driver = "raw_exec"
    }
  }
}
"""


class StockAutoscaler(Server):
    """Nomad's own autoscaler with the configuration that we ship for it. replace: more {text: text} for that."""

    def __init__(self, drover, **replace):
        super().__init__(drover.rig, f"stock-{secrets.token_hex(3)}")
        self.drover = drover
        self.ports = {"http": self.rig.ports.take()}
        self.replace = {
            "http://127.0.0.1:4646": self.rig.nomad.url,
            '"default"': f'"{drover.namespace}"',
            "http://127.0.0.1:8700": drover.url,
            **replace,
        }

    def argv(self):
        with open(os.path.join(STOCK, "agent.hcl"), encoding="utf-8") as file:
            text = file.read()
        for old, new in self.replace.items():
            assert old in text, old
            text = text.replace(old, new)
        path = os.path.join(self.folder, "agent.hcl")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'http {{\n  bind_address = "127.0.0.1"\n  bind_port = {self.ports["http"]}\n}}\n{text}')
        return [binaries.server("nomad-autoscaler"), "agent", "-config", path]

    def is_ready(self):
        return self.call("GET", "/v1/health").status == 200


def stock_scaling(nomad, vertical="story", **replace):
    """The scaling block that we ship for Nomad's own autoscaler, as Nomad's API has it."""
    with open(os.path.join(STOCK, "scaling.hcl"), encoding="utf-8") as file:
        text = file.read()
    for old, new in {"python": vertical, **replace}.items():
        assert old in text, old
        text = text.replace(old, new)
    body = {"JobHCL": WRAPPED % text, "Canonicalize": True}
    return nomad.call("POST", "/v1/jobs/parse", json=body).expect(200).json()["TaskGroups"][0]["Scaling"]


def set_scaling(nomad, namespace, scaling, job="drover-workers-story"):
    """Put another scaling block into the group's job. What the dispatcher wrote into the old one to know it by stays."""
    found = nomad.job(job, namespace)
    old = found["TaskGroups"][0]["Scaling"]
    kept = {key: old["Policy"][key] for key in ("digest", "spec", "ledger") if key in old["Policy"]}
    found["TaskGroups"][0]["Scaling"] = {**old, **{key: scaling[key] for key in ("Min", "Max", "Enabled")}}
    found["TaskGroups"][0]["Scaling"]["Policy"] = {**scaling["Policy"], **kept}
    body = {"Job": found, "PreserveCounts": True}
    nomad.call("POST", f"/v1/jobs?namespace={namespace}", json=body).expect(200)


def scaling_events(nomad, namespace, job="drover-workers-story", group="workers"):
    """Nomad's scaling events of a group, newest first."""
    status = nomad.get(f"/v1/job/{job}/scale", namespace=namespace)
    return (status["TaskGroups"].get(group) or {}).get("Events") or []


def count(nomad, namespace, job="drover-workers-story"):
    """The desired count, None while there is no such job."""
    found = nomad.job(job, namespace)
    return None if found is None else found["TaskGroups"][0]["Count"]


def set_count(nomad, namespace, number, job="drover-workers-story", group="workers"):
    """What an operator does with `nomad job scale`."""
    body = {"Count": number, "Target": {"Group": group}, "Message": "by hand"}
    nomad.call("POST", f"/v1/job/{job}/scale?namespace={namespace}", json=body).expect(200)


def tune(nomad, namespace, job="drover-workers-story", **policy):
    """Change keys of the group's scaling policy, as an operator may; None takes one out."""
    found = nomad.job(job, namespace)
    keys = found["TaskGroups"][0]["Scaling"]["Policy"]
    for name, value in policy.items():
        keys[name] = value
        if value is None:
            del keys[name]
    body = {"Job": found, "PreserveCounts": True}
    nomad.call("POST", f"/v1/jobs?namespace={namespace}", json=body).expect(200)


def live(nomad, namespace, job="drover-workers-story"):
    """Allocations that shall run and do."""
    return [
        alloc
        for alloc in nomad.allocs(job, namespace)
        if alloc["DesiredStatus"] == "run" and alloc["ClientStatus"] in ("pending", "running")
    ]


__all__ = ["Autoscaler", "StockAutoscaler", "count", "live", "scaling_events", "set_count", "set_scaling", "stock_scaling", "tune"]
