# SPDX-License-Identifier: Apache-2.0
"""SQL of the query language into the typed query and its presentation. sqlglot never leaves this package, and is
loaded at the first statement.

The language (unquoted names are folded to small letters):

    SELECT <dimensions and aggregates, each optionally AS name>
    FROM dataset | "dataset@3" | dataset@3 | dataset FOR VERSION AS OF 3
    [WHERE …] [GROUP BY name or position, …] [ORDER BY name, alias, position or aggregate [ASC | DESC], …] [LIMIT n]

Aggregates: COUNT(*), COUNT(DISTINCT unit), SUM(x), AVG(x), VARIANCE(x) = VAR_POP(x), STDDEV(x) = STDDEV_POP(x)
(both of the population, not of a sample), QUANTILE(x, 0.9) = PERCENTILE(x, 0.9), MEDIAN(x), HISTOGRAM(x).

Predicates: = <> != < <= > >= between a column and a constant, on either side; [NOT] BETWEEN, [NOT] IN, IS [NOT] NULL,
AND, OR, NOT. Constants: integers, decimals, 'text', TRUE, FALSE.
"""

from __future__ import annotations

from weir_client._sql.presentation import Order, Output, ParsedQuery, Presentation

__all__ = ["Order", "Output", "ParsedQuery", "Presentation", "parse"]


def parse(sql: str) -> ParsedQuery:
    """The typed query and presentation that a statement means.

    Raises:
        InvalidQuery: anything outside the language; the text names the rule and the nearest thing that is allowed.
    """
    from weir_client._sql.statement import parse as parse_statement

    return parse_statement(sql)
