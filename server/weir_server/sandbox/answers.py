# SPDX-License-Identifier: Apache-2.0
"""Answers from synthetic rows: the stages of the pipeline without contract, charge, leaf or receipt.

What keeps it from real data is what it is given: `cards_of` takes the cards and version numbers out of a catalogue and
leaves every directory and digest behind, the techniques here have stores of their own, and the snapshots they open are
those that `Builds` made from cards. So a reply is a function of query, card and noise.

Names, types, techniques and red lines refuse as they do for real; what a contract would say is not asked. All work but
binding is done by one thread, so that playing costs nobody who asks for real.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from weir.errors import InternalError, PolicyDenied
from weir.v1 import answer_pb2
from weir_server.catalog.card import DatasetCard, Grade, Mode, modes_under
from weir_server.catalog.catalogue import Catalogue
from weir_server.catalog.snapshot import Snapshot
from weir_server.config import Limits
from weir_server.dp.store import BoundedStores
from weir_server.dp.technique import DpTechnique
from weir_server.exact.store import Stores
from weir_server.exact.technique import ExactTechnique
from weir_server.plan.bind import bind
from weir_server.plan.values import BoundQuery, Submission, Technique
from weir_server.policy.decide import red_lines
from weir_server.sandbox.builds import Builds
from weir_server.services.admission import Admission

NOWHERE = Path("/dev/null/no-snapshot")
"""Directory of a snapshot that has a card and no data: a path that cannot exist."""
LIMITS = Limits(requests_per_second=10, burst=40, max_in_flight=24, max_in_flight_per_requester=4)
"""Of the sandbox alone, beside those of every call."""
_MOST_OPEN = 8
_SECONDS = 10.0
"""Most for one statement over synthetic rows."""


def cards_of(catalogue: Catalogue, dataset: str) -> Catalogue:
    """One dataset's cards by version, without anything that leads to its data."""
    snapshots = catalogue.datasets.get(dataset)
    if snapshots is None:
        return Catalogue()
    # Made anew, field by field, so that nothing which a snapshot may come to hold is taken along.
    bare = (Snapshot(item.card, item.version, item.published, "", NOWHERE, ()) for item in snapshots)
    return Catalogue(MappingProxyType({dataset: tuple(bare)}))


class Sandbox:
    """Answers questions of synthetic rows. Used from one event loop; `clock`: monotonic seconds."""

    def __init__(self, builds: Builds, *, clock: Callable[[], float]) -> None:
        self._builds = builds
        self._admission = Admission(LIMITS, clock=clock)
        self._dp = DpTechnique(BoundedStores(most=_MOST_OPEN), seconds=_SECONDS)
        exact = ExactTechnique(stores=Stores(most=_MOST_OPEN))
        self._techniques: dict[Mode, Technique] = {Mode.EXACT: exact, Mode.DP: self._dp}
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="weir-sandbox")

    async def close(self) -> None:
        """Stop, and remove every synthetic snapshot."""
        self._worker.shutdown(wait=True, cancel_futures=True)
        self._dp.close()
        await self._builds.close()

    async def answer(
        self, submission: Submission, cards: Catalogue, *, grade_of: Callable[[DatasetCard], Grade]
    ) -> answer_pb2.Answer:
        """The answer over synthetic rows, marked as such.

        `cards`: as `cards_of` gives them. `grade_of`: the grade that holds for a card now.

        Raises:
            UnknownName, InvalidQuery: as for a real query; also where the card makes no sandbox.
            PolicyDenied: a red line.
            Overloaded: too many questions at once, or a sandbox is being built.
        """
        with self._admission.seat(submission.principal.name):
            bound = bind(submission, cards)
            _refuse_data(bound)
            grade = grade_of(bound.card)
            if reasons := red_lines(bound, grade=grade.name, offered=modes_under(bound.card, grade)):
                sentences = "; ".join(reason.sentence for reason in reasons)
                raise PolicyDenied(sentences, reasons=reasons, rule=reasons[0].code)
            technique = self._techniques[bound.mode]
            technique.analyse(bound)  # every refusal comes before anything is built
            # The version's own card, not one that a stricter grade of another version lies over.
            own = next(
                item.card for item in cards.datasets[bound.query.dataset] if item.version == bound.query.snapshot
            )
            built = await self._builds.get(own)
            bound = replace(bound, snapshot=replace(built, card=bound.card, version=bound.query.snapshot))
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._worker, _answer, technique, bound)


def _refuse_data(bound: BoundQuery) -> None:
    """The wall, once more: what is bound here has no directory.

    Raises:
        InternalError: it has one.
    """
    if bound.snapshot.directory != NOWHERE:
        raise InternalError("a sandbox was given a snapshot of data", rule="sandbox.wall")


def _answer(technique: Technique, bound: BoundQuery) -> answer_pb2.Answer:
    """Stages 2, 5 and 6, over a synthetic snapshot."""
    analysis = technique.analyse(bound)
    answer = technique.release(bound, analysis, technique.execute(bound, analysis))
    answer.dataset, answer.snapshot = bound.query.dataset, bound.snapshot.version
    answer.mode = answer_pb2.MODE_DP if bound.mode is Mode.DP else answer_pb2.MODE_EXACT
    answer.epsilon_nano = analysis.loss.epsilon_nano
    answer.sandbox = True
    return answer
