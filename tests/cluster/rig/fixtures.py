"""pytest fixtures and hooks; a conftest.py takes them with "from rig.fixtures import *"."""

import os

import pytest

from .rig import Rig

# A story that hangs is a failed story.
STORY_TIMEOUT_S = 300

_RIG = pytest.StashKey()


def pytest_configure(config):
    if not config.getoption("timeout", None):
        config.option.timeout = STORY_TIMEOUT_S
    config.addinivalue_line("markers", "docker: needs a Docker engine; skipped with the reason where there is none")


@pytest.fixture(name="session_rig", scope="session")
def session_rig_fixture(request):
    """All servers, once per session. DROVER_RIG_KEEP=1 leaves folder and logs behind."""
    rig = Rig(keep=os.environ.get("DROVER_RIG_KEEP") == "1")
    request.config.stash[_RIG] = rig
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
    rig = item.config.stash.get(_RIG, None)
    if report.failed and rig is not None and os.path.isdir(rig.logs):
        report.sections.append(("logs of the rig", rig.log_tails()))
