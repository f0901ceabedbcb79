"""Fixtures of the stories on real servers: see README.md."""

import os
import secrets

import pytest

from rig import Drover, Toolbox
from rig.secure import SecureRig
from rig.fixtures import *  # noqa: F401,F403 - pytest looks for fixtures in this module
from stories.system import Cluster

# Back-off short enough for tests. Facts from Nomad end an attempt long before its lease does, which a busy machine may keep a
# worker from renewing for some seconds.
QUICK = {"LEASE_TTL": "20s", "BACKOFF_BASE": "50ms", "BACKOFF_CAP": "1s", "RECONCILE_INTERVAL": "5s"}


@pytest.fixture(name="system")
def system_fixture(rig, toolbox):
    drover = Drover(rig, toolbox, QUICK).start()
    yield Cluster(drover)
    rig.heal()
    drover.close()


@pytest.fixture(name="shared_system", scope="module")
def shared_system_fixture(session_rig):
    """(system, toolbox) for stories that only ask: one for all of a module."""
    toolbox = Toolbox(os.path.join(session_rig.folder, f"toolbox-{secrets.token_hex(3)}"))
    drover = Drover(session_rig, toolbox, QUICK).start()
    yield Cluster(drover), toolbox
    session_rig.heal()
    drover.close()


@pytest.fixture(name="secure_session", scope="session")
def secure_session_fixture():
    """Servers with ACLs and TLS, once per session; stories take secure_rig."""
    with SecureRig(keep=os.environ.get("DROVER_RIG_KEEP") == "1") as rig:
        try:
            rig.start_servers(with_docker=False)
        except BaseException:
            print(rig.log_tails())
            raise
        yield rig


@pytest.fixture(name="secure_rig")
def secure_rig_fixture(secure_session):
    yield secure_session
    secure_session.heal()


@pytest.fixture(name="secure_toolbox")
def secure_toolbox_fixture(secure_session):
    return Toolbox(os.path.join(secure_session.folder, f"toolbox-{secrets.token_hex(3)}"))
