"""Tunes the garbage collector of a process."""

import gc
from typing import Final

# Between two garbage collections. 50,000 gains nothing over 10,000.
_NEW_OBJECTS: Final = 10_000


def tune_garbage_collection() -> None:
    """Exclude permanent objects from collections, and collect new ones less often.

    A request leaves no reference cycle, nor does a row of an import. With the default of 700 new
    objects, a turn of the event loop that answers 32 cached reads has several collections, which
    are 4 % of its processor time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)
