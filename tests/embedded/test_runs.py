"""The stories about runs, embedded."""

from stories.runs import *  # noqa: F401,F403 - pytest finds them here
