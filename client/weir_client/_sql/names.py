# SPDX-License-Identifier: Apache-2.0
"""Names, parentheses and refusals, as every part of a statement needs them."""

from __future__ import annotations

from sqlglot import exp

from weir.errors import InvalidQuery
from weir.query import check_name


def column_name(node: exp.Column) -> str:
    if not isinstance(node.this, exp.Identifier) or any(v for k, v in node.args.items() if k != "this"):
        raise refusal("a column is one bare name, without table or *", "name.form")
    name = identifier(node.this)
    check_name(name, field="sql")
    return name


def identifier(node: exp.Identifier) -> str:
    return str(node.this) if node.quoted else str(node.this).lower()


def bare(node: exp.Expression) -> exp.Expression:
    """Without the parentheses around it."""
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def refusal(sentence: str, rule: str) -> InvalidQuery:
    return InvalidQuery(sentence, field="sql", rule=rule)
