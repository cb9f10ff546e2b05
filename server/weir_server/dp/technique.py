# SPDX-License-Identifier: Apache-2.0
"""The dp technique: stages 2, 5 and 6 of the pipeline for user-level differential privacy."""

from __future__ import annotations

from itertools import product

from weir.errors import InternalError, InvalidQuery
from weir.query import Literal
from weir.v1 import answer_pb2, query_pb2
from weir.wire import literal_to_proto
from weir_server.catalog.card import Cell
from weir_server.dp.accounting import Accounting, accounting_of, micro_rho
from weir_server.dp.accuracy import MAX_EPSILON_NANO, loss_within
from weir_server.dp.aggregate import Totals, totals
from weir_server.dp.answer import columns, fill, magnitudes
from weir_server.dp.layout import base_dimensions, grid_cells
from weir_server.dp.noise import add_gaussian, add_laplace, exact_decimal
from weir_server.dp.plan import DpPlan, Mechanism, Output, Part, check_parts, compile_plan, uses_cube
from weir_server.dp.selection import select_edge
from weir_server.dp.store import BoundedStores
from weir_server.plan.values import Analysis, BoundQuery, Loss, Raw, open_raw

SCAN_WORK = 1_000_000
"""Units of work of a pass over the rows: a constant, since their number is not public."""
_MAX_SECONDS = 300.0


class DpTechnique:
    """Answers from bounded stores. Owns their engines; safe from any thread."""

    def __init__(
        self,
        stores: BoundedStores | None = None,
        *,
        seconds: float = _MAX_SECONDS,
    ) -> None:
        """`seconds`: most for one statement over a store."""
        self._stores = BoundedStores() if stores is None else stores
        self._seconds = seconds

    def close(self) -> None:
        """Close the engines."""
        self._stores.close()

    def analyse(self, bound: BoundQuery) -> Analysis:
        """Mechanism, loss and noise of a dp query, from the card alone; each compiled measurement is held against
        the plan.

        Raises:
            InvalidQuery: no loss stated, or dp cannot answer it.
        """
        accounting = accounting_of(bound.card)
        plan = compile_plan(bound, _asked_loss(bound, accounting), accounting=accounting)
        loss = Loss(epsilon_nano=plan.epsilon_nano, rho_micro=micro_rho(plan.rho_nano))
        check_parts(plan, most=loss)
        return Analysis(
            mechanism=_mechanism(bound, plan),
            loss=loss,
            columns=tuple(column for output in plan.outputs for column in columns(output, plan.accounting)),
            magnitudes=tuple(most for output in plan.outputs for most in magnitudes(output)),
            work=_work(bound, plan),
            body=plan,
        )

    def execute(self, bound: BoundQuery, analysis: Analysis) -> Raw:
        """True integers of every declared cell. The measurements are checked again first, against the loss that
        was reserved.

        Raises:
            InternalError: a check or the engine failed.
            Unavailable: it took too long.
        """
        plan = _plan(analysis)
        check_parts(plan, most=analysis.loss)
        return Raw(totals(bound, plan, self._stores.open(bound.snapshot), seconds=self._seconds))

    def release(self, bound: BoundQuery, analysis: Analysis, raw: Raw) -> answer_pb2.Answer:
        """Noise, drawn here and once, and what is computed from noisy integers alone."""
        found = open_raw(raw)
        if not isinstance(found, dict):
            raise InternalError("a raw value of another technique", rule="dp.raw")
        answer, plan = answer_pb2.Answer(keys=_keys(bound)), _plan(analysis)
        if plan.accounting.concentrated:
            answer.rho_micro, answer.delta_digits = analysis.loss.rho_micro, plan.accounting.delta_digits
        for output in plan.outputs:
            answer.values.extend(fill(output, plan.accounting, [_noisy(part, found) for part in output.parts]))
        return answer


def _plan(analysis: Analysis) -> DpPlan:
    if not isinstance(analysis.body, DpPlan):
        raise InternalError("a plan of another technique", rule="dp.plan")
    return analysis.body


def _asked_loss(bound: BoundQuery, accounting: Accounting) -> int:
    submission = bound.submission
    if submission.epsilon_nano is not None and submission.within is not None:
        raise InvalidQuery("state epsilon or accuracy, not both", field="epsilon_nano", rule="dp.loss")
    if submission.within is not None:
        return loss_within(bound, submission.within, accounting=accounting)
    if submission.epsilon_nano is None or submission.epsilon_nano <= 0:
        raise InvalidQuery(
            'a dp query states the loss it may cost: epsilon (for example "0.5"), or within (a half-width at 95 %)',
            field="epsilon_nano",
            rule="dp.loss",
        )
    if submission.epsilon_nano > MAX_EPSILON_NANO:
        raise InvalidQuery("epsilon is at most 1,000", field="epsilon_nano", rule="dp.loss")
    return submission.epsilon_nano


def _work(bound: BoundQuery, plan: DpPlan) -> int:
    cells = grid_cells(base_dimensions(bound.card))
    tallies = {part.tally for output in plan.outputs for part in output.parts}
    return sum(cells if uses_cube(bound, tally) else SCAN_WORK for tally in tallies)


def _mechanism(bound: BoundQuery, plan: DpPlan) -> dict[str, object]:
    """Everything that shapes the distribution of the release; not which store is read, which does not."""
    return {
        "technique": "dp",
        "neighbours": "add or remove one unit",
        "delta": f"1e-{plan.accounting.delta_digits}" if plan.accounting.concentrated else "0",
        "rows_per_unit": str(bound.card.bounds.rows_per_unit),
        "groups_per_unit": {name: str(most) for name, most in sorted(bound.card.bounds.groups_per_unit.items())},
        "aggregates": [_described(output) for output in plan.outputs],
    }


def _described(output: Output) -> dict[str, object]:
    return {
        "name": output.aggregate.name,
        "parts": [
            {
                "of": part.tally.kind.value,
                "noise": part.mechanism.value,
                "scale": exact_decimal(part.scale),
                "sensitivity": str(part.sensitivity.l1),
                "epsilon_nano": str(part.epsilon_nano),
                "rho_nano": str(part.rho_nano),
            }
            for part in output.parts
        ],
    }


def _noisy(part: Part, found: Totals) -> list[int]:
    values = found[part.tally]
    measure = part.tally.measure
    if part.quantile_ppm is None or measure is None:
        add = add_gaussian if part.mechanism is Mechanism.GAUSSIAN else add_laplace
        return add(values, part.scale)
    width = part.tally.width()
    cells = [values[start : start + width] for start in range(0, len(values), width)]
    return [select_edge(counts, measure.buckets, part.quantile_ppm, part.scale) for counts in cells]


def _keys(bound: BoundQuery) -> list[answer_pb2.KeyColumn]:
    """Cells of the answer in the order of their index: the last group varies fastest."""
    cells = list(product(*(dimension.cells for dimension in bound.groups)))
    return [
        answer_pb2.KeyColumn(name=dimension.name, cells=[_key(cell[position]) for cell in cells])
        for position, dimension in enumerate(bound.groups)
    ]


def _key(cell: Cell) -> query_pb2.Literal:
    return query_pb2.Literal() if cell.value is None else literal_to_proto(Literal(cell.value))
