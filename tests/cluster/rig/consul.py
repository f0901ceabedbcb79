"""Consul: one server agent with a data directory."""

import json
import os

from . import binaries
from .server import Server


class Consul(Server):
    shared = True

    def __init__(self, rig, name="consul"):
        super().__init__(rig, name)
        self.ports = {port: rig.ports.take() for port in ("http", "server", "serf_lan")}

    def config(self):
        return {
            "server": True,
            "bootstrap_expect": 1,
            "node_name": self.name,
            "data_dir": os.path.join(self.folder, "data"),
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "disable_update_check": True,
            "leave_on_terminate": False,
            "performance": {"raft_multiplier": 1},
            "connect": {"enabled": False},
            "ports": {**self.ports, "dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1},
        }

    def argv(self):
        path = os.path.join(self.folder, "agent.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.config(), file, indent=1)
        return [binaries.server("consul"), "agent", "-config-file", path]

    def is_ready(self):
        # Consistent: a leader just elected may not have applied its own log yet.
        return bool(self.get("/v1/status/leader")) and bool(self.get("/v1/catalog/nodes", consistent=""))

    def register(self, service_id, name, port, check_path, tags=(), address="127.0.0.1"):
        """Register a service of this agent with an HTTP check once a second. The same id replaces the old one."""
        self.call(
            "PUT",
            "/v1/agent/service/register",
            json={
                "ID": service_id,
                "Name": name,
                "Address": address,
                "Port": port,
                "Tags": list(tags),
                "Check": {"HTTP": f"http://{address}:{port}{check_path}", "Interval": "1s", "Timeout": "10s"},
            },
        ).expect(200)

    def deregister(self, service_id):
        self.call("PUT", f"/v1/agent/service/deregister/{service_id}").expect(200)

    def passing(self, name):
        """Addresses host:port of the healthy instances of a service."""
        return sorted(
            f"{entry['Service']['Address'] or entry['Node']['Address']}:{entry['Service']['Port']}"
            for entry in self.get(f"/v1/health/service/{name}", passing="true")
        )
