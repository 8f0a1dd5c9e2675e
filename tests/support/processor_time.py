"""Compares the processor time of two functions, on machines that are busy with other work.

A host that takes the processor from a virtual machine counts as processor time there, and a busy
machine has cold caches. Both only add to a measurement. So the two functions run in turns, and the
best runs of each are compared, until the comparison holds or has failed often enough.
"""

import gc
import time
from collections.abc import Callable

_LEAST_ROUNDS = 2
_MOST_ROUNDS = 12


def costs_at_most(
    factor: float, subject: Callable[[], object], control: Callable[[], object], slack: float = 0.0
) -> bool:
    """True if `subject` takes at most `factor` times as long as `control`, and `slack` seconds.

    A subject that costs too much fails each comparison of the best runs.
    """
    best, allowed = float("inf"), float("inf")
    for number in range(1, _MOST_ROUNDS + 1):
        allowed = min(allowed, factor * _seconds(control) + slack)
        best = min(best, _seconds(subject))
        if best <= allowed and number >= _LEAST_ROUNDS:
            return True
    return False


def _seconds(function: Callable[[], object]) -> float:
    """Return the processor time of this thread, without garbage collection."""
    gc.disable()
    try:
        began = time.thread_time()
        function()
        return time.thread_time() - began
    finally:
        gc.enable()
