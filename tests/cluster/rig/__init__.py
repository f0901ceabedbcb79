"""Real Nomad, Consul and MinIO for tests: see tests/cluster/README.md."""

from .rig import Rig

__all__ = ["Rig"]
