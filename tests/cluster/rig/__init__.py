"""Real Nomad, Consul and MinIO, and Drover's programs, for tests: see tests/cluster/README.md."""

import signal

from .drover import Drover
from .rig import Rig
from .toolbox import Toolbox

# A shell ignores SIGINT in what it starts in the background, and what is ignored is inherited by programs that tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = ["Drover", "Rig", "Toolbox"]
