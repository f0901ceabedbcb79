"""The stories about runs, on real Nomad, Consul and MinIO."""

from stories.runs import *  # noqa: F401,F403 - pytest finds them here
