"""Fixtures of the stories on real servers: see README.md."""

from rig.fixtures import *  # noqa: F401,F403 - pytest looks for fixtures in this module
