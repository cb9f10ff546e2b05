# SPDX-License-Identifier: Apache-2.0
"""Exports of the catalogue: made in a thread, one at a time, and kept until a dataset or a grade changes, so that
asking for them again and again costs nothing."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from weir_server.catalog.export_dcat import Domain, Graded, dcat_document
from weir_server.catalog.export_odcs import odcs_document

MAX_KEPT = 16
FORMATS = ("dcat", "odcs")
_Key = tuple[str, tuple[tuple[str, str, str], ...]]


class Exports:
    """Documents of one domain. Used from one event loop."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._kept: OrderedDict[_Key, str] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()

    async def get(self, format: str, graded: Sequence[Graded]) -> str:
        """The document. `format`: one of `FORMATS`; `graded`: one dataset for `odcs`."""
        key = format, tuple((item[0].card.name, item[0].manifest_digest, grade.name) for item, grade in graded)
        async with self._one_at_a_time:
            if key not in self._kept:
                self._kept[key] = await asyncio.to_thread(self._made, format, graded)
            self._kept.move_to_end(key)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]

    def _made(self, format: str, graded: Sequence[Graded]) -> str:
        if format == "dcat":
            return dcat_document(graded, self._domain)
        ((snapshots, grade),) = graded
        return odcs_document(snapshots, grade, self._domain)
