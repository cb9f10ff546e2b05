# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""Aggregates on their way from where rows are to the publisher's own database, and what is public on its way there."""

from __future__ import annotations

from collections.abc import Mapping

from weir_server.engine.duckdb import Engine
from weir_server.engine.port import RowEngine
from weir_server.engine.relational import Statement, statement

Columns = Mapping[str, str]
"""Names of columns to their types in the language."""


def bring(name: str, columns: Columns, wanted: Statement, *, rows: RowEngine, local: Engine) -> None:
    """Create the table `name` of aggregates in the publisher's database."""
    if rows is local:
        local.keep(name, wanted)
    else:
        local.load(name, columns, (row for batch in rows.stream(wanted) for row in batch))


def send(name: str, columns: Columns, *, rows: RowEngine, local: Engine) -> None:
    """Make a table of the publisher's database known where rows are; it holds codes of cells, nothing of units."""
    if rows is not local:
        listed = local.batches(f"SELECT {', '.join(columns)} FROM {name}", rows=100_000)
        rows.load(name, columns, (row for batch in listed for row in batch))


def bring_groups(
    name: str, source: str, *, keys: Columns, sums: Mapping[str, tuple[str, str]], values: Mapping[int, str], most: int,
    rows: RowEngine, local: Engine,
) -> None:  # fmt: skip
    """Create the table `name` in the publisher's database: `source` grouped by `keys`.

    `source`: a relation with these columns. `sums`: column to its aggregate and type. `values`: for each index i a
    column whose greatest and least `most` values become the lists t_<i>, descending, and u_<i>, ascending.
    """
    listed = ", ".join(keys)
    plain = ", ".join([listed, *(f"{aggregate} AS {column}" for column, (aggregate, _) in sums.items())])
    kinds = {**keys, **{column: kind for column, (_, kind) in sums.items()}}
    grouped = statement(f"SELECT {plain} FROM {source} GROUP BY {listed}")
    if not values:
        bring(name, kinds, grouped, rows=rows, local=local)
        return
    bring(f"{name}_sums", kinds, grouped, rows=rows, local=local)
    joins, lists = [], []
    for index, value in values.items():
        part = f"{name}_ends_{index}"
        bring(part, {**keys, "v": "BIGINT", "side": "INT"}, _ends(source, listed, value, most), rows=rows, local=local)
        joins.append(
            f" LEFT JOIN (SELECT {listed}, list(v ORDER BY v DESC) FILTER (WHERE side = 0) AS t_{index}, "
            f"list(v ORDER BY v) FILTER (WHERE side = 1) AS u_{index} FROM {part} GROUP BY {listed}) USING ({listed})"
        )
        lists += [f"t_{index}", f"u_{index}"]
    chosen = ", ".join([*kinds, *lists])
    local.run(f"CREATE TABLE {name} AS SELECT {chosen} FROM {name}_sums{''.join(joins)}")
    for part in (f"{name}_sums", *(f"{name}_ends_{index}" for index in values)):
        local.drop(part)


def _ends(source: str, keys: str, value: str, most: int) -> Statement:
    def ranked(order: str, side: int) -> str:
        place = f"ROW_NUMBER() OVER (PARTITION BY {keys} ORDER BY {value}{order})"
        inner = f"SELECT {keys}, {value} AS v, {place} AS place FROM {source}"
        return f"SELECT {keys}, v, {side} AS side FROM ({inner}) AS ranked_{side} WHERE place <= {most}"

    return statement(f"{ranked(' DESC', 0)} UNION ALL {ranked('', 1)}")
