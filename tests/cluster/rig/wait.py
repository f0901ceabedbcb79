"""Waiting for a fact, with a deadline: the only way in which tests wait."""

import time

# Costs nothing where the fact comes: long enough for real servers on a machine that is slow, or busy with something else.
PATIENCE_S = 60.0
FIRST_PAUSE_S = 0.01
LONGEST_PAUSE_S = 0.25


class TimedOut(AssertionError):
    """The fact did not come true in time."""


def until(what, probe, timeout_s=PATIENCE_S, abort=None):
    """Call probe() until it answers something true and return that.

    what     words for the failure message
    probe    OSError and LookupError count as "not yet": the last one is named when time is up
    abort    called before each try; a non-empty answer ends the waiting at once with that reason
    """
    deadline = time.monotonic() + timeout_s
    pause_s = FIRST_PAUSE_S
    last = None
    while True:
        reason = abort() if abort else None
        if reason:
            raise TimedOut(f"{what}: gave up: {reason}")
        try:
            value = probe()
            if value:
                return value
            last = value
        except (OSError, LookupError) as error:
            last = error
        if time.monotonic() >= deadline:
            raise TimedOut(f"{what}: not within {timeout_s:g} s (last: {last!r})")
        time.sleep(min(pause_s, max(0.0, deadline - time.monotonic())))
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
