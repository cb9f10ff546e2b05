# SPDX-License-Identifier: Apache-2.0
"""What a piece of work leaves in memory once it is over, before any collector has come by.

Objects that hold each other stay until then. In a server that may be minutes, and they hold megabytes with them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def left_behind(*kinds: type) -> Iterator[Callable[[], dict[str, int]]]:
    """Keeps the collector away, and gives how many objects of these types there are by then that were not there before,
    by name of the type.
    """
    gc.collect()
    before = [each for each in gc.get_objects() if type(each) in kinds]
    known = {id(each) for each in before}

    def count() -> dict[str, int]:
        found: dict[str, int] = {}
        for each in gc.get_objects():
            if type(each) in kinds and id(each) not in known:
                found[type(each).__name__] = found.get(type(each).__name__, 0) + 1
        return found

    gc.disable()
    try:
        yield count
    finally:
        gc.enable()
