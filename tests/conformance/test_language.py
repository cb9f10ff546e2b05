# SPDX-License-Identifier: Apache-2.0
"""Every function and form of the language gives the same integers and texts on every engine."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest

from weir_server.engine.port import RowEngine
from weir_server.engine.relational import statement

_LARGE = 12_345_678_901_234_567_890_123_456_789
CASES = [
    # expression, and what it gives everywhere
    ("SHA256_HEX('堰')", "f793ae84894ff70e8311ebba663cc3d250edda15c85b088fee73c16b89662893"),
    ("TEXT_JOIN('|', 'a', CAST(NULL AS TEXT), 'b')", "a|b"),
    ("INT_DIV(7, 2) + INT_DIV(3 + 3, 4)", 4),
    (f"CAST('{_LARGE}' AS DECIMAL(38, 0))", _LARGE),
    ("TRY_CAST('1.5' AS DECIMAL(10, 0))", 2),
    ("TRY_CAST('-1.5' AS DECIMAL(10, 0))", -2),
    ("TRY_CAST('x' AS DECIMAL(10, 0))", None),
    ("TRY_CAST('1' || REPEAT('0', 40) AS DECIMAL(38, 0))", None),
    ("IS_FINITE(TRY_CAST('NaN' AS DOUBLE))", False),
    ("IS_FINITE(TRY_CAST('Infinity' AS DOUBLE))", False),
    ("IS_FINITE(TRY_CAST('1.5' AS DOUBLE))", True),
    ("EPOCH_MICROS('1970-01-02 00:00:00')", 86_400_000_000),
    ("EPOCH_MICROS('1970-01-02T08:00:00+08:00')", 86_400_000_000),
    ("MATCHES('ab1', '[a-z]+[0-9]')", True),
    ("MATCHES('ab1', '[a-z]+')", False),
    ("MATCHES('ab' || CAST(NULL AS TEXT), 'ab')", None),
    ("CAPTURE('12.50', '([0-9]+)[.]([0-9]+)', 2)", "50"),
    ("CAPTURE('x', '([0-9]+)', 1)", ""),
    ("STORED(255, 0, 255)", 255),
    ("STORED(-40000, -40000, 40000)", -40_000),
    ("'it''s \"a\" `b` \\n'", 'it\'s "a" `b` \\n'),
    # Spark puts variables into statements: of its own settings, of its environment, and nothing where there is none.
    ("'${env:PATH} ${nothing} ${spark.sql.session.timeZone}'", "${env:PATH} ${nothing} ${spark.sql.session.timeZone}"),
    ("'a\x0012b'", "a\x0012b"),
    ("LEAST(3, CAST(NULL AS INT), 2)", 2),
    ("GREATEST(3, CAST(NULL AS INT), 2)", 3),
    ("COALESCE(CAST(NULL AS INT), 5)", 5),
    ("'a' || CAST(NULL AS TEXT)", None),
    ("LENGTH('原始数据')", 4),
    ("SUBSTRING('abcdef', 2, 3)", "bcd"),
    ("REPLACE('1.50', '.', '')", "150"),
    ("CAST(TRY_CAST('0.000000000000000001' AS DECIMAL(38, 18)) AS TEXT)", "0.000000000000000001"),
    ("CAST(CAST(-7 AS BIGINT) AS TEXT)", "-7"),
    ("-7 % 3", -1),
    ("ABS(-7)", 7),
    ("CASE WHEN CAST(NULL AS INT) > 1 THEN 1 ELSE 2 END", 2),
    ("3 NOT BETWEEN 1 AND 2", True),
    ("NULL IS NULL", True),
    ("HEX_INT('ffffffff')", 2**32 - 1),
    ("HEX_INT(SUBSTRING('00000000ab', 3, 8))", 0xAB),
    ("NUMBER('-12.345', 19, 2)", Decimal("-12.35")),
    ("NUMBER('1e400', 19, 18)", None),
    ("STEPS(NUMBER('-0.05', 19, 2), 2)", -5),
    ("STEPS(NUMBER('12.5', 19, 18), 18)", 12_500_000_000_000_000_000),
    ("POSITION_OF('b', 'a', 'b')", 1),
    ("POSITION_OF('c', 'a', 'b')", None),
    ("POSITION_OF(CAST(NULL AS TEXT), 'a', 'b')", None),
    (f"CAST('{2**63}' AS HUGEINT) + 1", 2**63 + 1),
    ("CAST('-7' AS HUGEINT) % 2", -1),
]
AGGREGATES = [
    # over rows of (key, value): aggregate, rows, and what it gives everywhere
    ("FIRST_BY(v, k)", [(2, 20), (1, 10), (None, 5)], 10),
    ("FIRST_BY(v, k)", [(1, None), (2, 20), (3, 30)], 20),
    ("FIRST_BY(v, k)", [(None, 5)], None),
    ("FIRST_BY(v, k) FILTER (WHERE v > 10)", [(1, 10), (2, 20)], 20),
    ("TIED(k)", [(1, 0), (1, 1), (2, 2)], True),
    ("TIED(k)", [(1, 0), (2, 1), (2, 2)], False),
    ("COALESCE(TIED(k), FALSE)", [(1, 0), (None, 1)], False),
    ("EXACT_SUM(CAST(v AS HUGEINT) * 4611686018427387904)", [(1, 2), (2, 2), (3, -1)], 3 * 2**62),
    ("EXACT_SUM(v)", [], None),
]


def test_every_expression_has_one_value_everywhere(rows: RowEngine) -> None:
    columns = ", ".join(f"{expression} AS x{index}" for index, (expression, _) in enumerate(CASES))
    (found,) = rows.select(statement(f"SELECT {columns}"))
    assert dict(zip((case[0] for case in CASES), found, strict=True)) == dict(CASES)


@pytest.mark.parametrize(("aggregate", "given", "value"), AGGREGATES)
def test_an_aggregate_has_one_value_everywhere(
    rows: RowEngine, aggregate: str, given: Sequence[tuple[int | None, int | None]], value: object
) -> None:
    rows.load("given", {"k": "BIGINT", "v": "BIGINT"}, given)
    assert rows.select(statement(f"SELECT {aggregate} AS x FROM given")) == [(value,)]
