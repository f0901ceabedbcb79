"""Real Nomad, Consul and MinIO, and Drover's programs, for tests: see tests/cluster/README.md."""

from .drover import Drover
from .rig import Rig
from .toolbox import Toolbox

__all__ = ["Drover", "Rig", "Toolbox"]
