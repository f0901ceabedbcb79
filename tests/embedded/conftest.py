"""Fixtures of the stories without servers: a dispatcher with a directory store and looping workers, seconds each."""

import os
import secrets

import pytest

from rig import Drover, Toolbox
from rig.fixtures import *  # noqa: F401,F403 - pytest looks for fixtures in this module
from stories.system import Embedded

# Silence and back-off as short as the settings allow, so that crashes are seen and mended within seconds.
QUICK = {"LEASE_TTL": "2s", "BACKOFF_BASE": "50ms", "BACKOFF_CAP": "500ms"}


@pytest.fixture(name="system")
def system_fixture(embedded_rig, toolbox):
    drover = Drover(embedded_rig, toolbox, QUICK).start()
    drover.add_worker("story", DRAIN_TIMEOUT="1s")
    yield Embedded(drover)
    drover.close()


@pytest.fixture(name="shared_system", scope="module")
def shared_system_fixture(embedded_rig):
    """(system, toolbox) for stories that only ask: one for all of a module."""
    toolbox = Toolbox(os.path.join(embedded_rig.folder, f"toolbox-{secrets.token_hex(3)}"))
    drover = Drover(embedded_rig, toolbox, QUICK).start()
    yield Embedded(drover), toolbox
    drover.close()
