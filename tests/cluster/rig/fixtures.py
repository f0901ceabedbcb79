"""pytest fixtures and hooks; a conftest.py takes them with "from rig.fixtures import *"."""

import os
import secrets

import pytest

from .drover import Drover
from .rig import Rig
from .toolbox import Toolbox

# A story that hangs is a failed story.
STORY_TIMEOUT_S = 600

_RIGS = pytest.StashKey()


def pytest_configure(config):
    if not config.getoption("timeout", None):
        config.option.timeout = STORY_TIMEOUT_S
    config.stash[_RIGS] = []


@pytest.fixture(name="session_rig", scope="session")
def session_rig_fixture(request):
    """All servers, once per session. DROVER_RIG_KEEP=1 leaves folder and logs behind."""
    rig = Rig(keep=os.environ.get("DROVER_RIG_KEEP") == "1")
    request.config.stash[_RIGS].append(rig)
    try:
        rig.start_servers()
    except BaseException:
        print(rig.log_tails())
        rig.teardown()
        raise
    yield rig
    rig.teardown()


@pytest.fixture(name="rig")
def rig_fixture(session_rig):
    """The servers, all of them ready; what the test kills is brought back after it."""
    yield session_rig
    session_rig.heal()


@pytest.fixture(name="nomad")
def nomad_fixture(rig):
    return rig.nomad


@pytest.fixture(name="embedded_rig", scope="session")
def embedded_rig_fixture(request):
    """A rig without servers: folder, ports and cleaning up for dispatchers and workers of their own."""
    rig = Rig(keep=os.environ.get("DROVER_RIG_KEEP") == "1")
    request.config.stash[_RIGS].append(rig)
    yield rig
    rig.teardown()


@pytest.fixture(name="toolbox")
def toolbox_fixture(request):
    """An empty toolbox with the vertical "story"; add() workflows to it."""
    real = {"rig", "drover"} & set(request.fixturenames)
    rig = request.getfixturevalue("session_rig" if real else "embedded_rig")
    # In the rig's folder: what pytest makes can only be read by its own user, and tools run as another.
    return Toolbox(os.path.join(rig.folder, f"toolbox-{secrets.token_hex(3)}"))


@pytest.fixture(name="drover")
def drover_fixture(rig, toolbox):
    """A dispatcher on the real servers, with buckets and a Nomad namespace of its own, serving the test's toolbox."""
    drover = Drover(rig, toolbox).start()
    yield drover
    rig.heal()
    drover.close()


@pytest.fixture(name="embedded")
def embedded_fixture(embedded_rig, toolbox):
    """A dispatcher with a directory store and one worker of the vertical "story"; no Nomad."""
    drover = Drover(embedded_rig, toolbox).start()
    drover.add_worker("story")
    yield drover
    drover.close()


@pytest.fixture(name="engine")
def engine_fixture(rig):
    """The Docker engine that Nomad uses; the test is skipped, with the reason, where there is none."""
    if rig.docker is None:
        if os.environ.get("DROVER_NEED_DOCKER") == "1":
            pytest.fail(f"DROVER_NEED_DOCKER=1, but: {rig.no_docker}")
        pytest.skip(rig.no_docker)
    return rig.docker


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed story shows the last lines of every log of the rig."""
    outcome = yield
    report = outcome.get_result()
    for rig in item.config.stash[_RIGS] if report.failed else []:
        if os.path.isdir(rig.logs):
            report.sections.append(("logs of the rig", rig.log_tails()))
