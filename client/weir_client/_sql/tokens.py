# SPDX-License-Identifier: Apache-2.0
"""From text to one SELECT tree, with everything refused that a recursive parser could not survive."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

from sqlglot import Token, TokenType, exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError
from sqlglot.parser import Parser as PlainParser

from weir.errors import InvalidQuery
from weir.query import MAX_NODES
from weir_client._sql.names import refusal

MAX_SQL = 262_144
MAX_NESTING = 40
_MAX_TOKENS = 20_000


class Language(Dialect):
    """Plain SQL in which no function is known, so that each arrives under the name it was written with."""

    class Parser(PlainParser):
        FUNCTIONS: ClassVar[dict[Any, Any]] = {}
        FUNCTION_PARSERS: ClassVar[dict[Any, Any]] = {}
        NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {}
        NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[Any, Any]] = {}


def statement(sql: str) -> exp.Select:
    if len(sql) > MAX_SQL:
        raise InvalidQuery(f"a statement has at most {MAX_SQL} characters", field="sql", rule="query.nodes")
    try:
        dialect = Language()
        _check_tokens(dialect.tokenize(sql))
        statements = [tree for tree in dialect.parse(sql) if tree is not None]
    except SqlglotError as error:
        raise refusal("this is not a SELECT of the query language" + _place(error), "query.syntax") from None
    except RecursionError:
        # The token check bounds what nests by parentheses and prefixes; this is for whatever else can nest.
        raise refusal("the statement is nested too deeply", "query.depth") from None
    if len(statements) != 1:
        raise refusal("exactly one SELECT statement is allowed at a time", "query.statements")
    if not isinstance(statements[0], exp.Select):
        raise refusal("only SELECT … FROM a dataset is allowed; no UNION, no change of data", "query.select")
    return statements[0]


def _place(error: SqlglotError) -> str:
    found = getattr(error, "errors", None) or [{}]
    line, column = found[0].get("line"), found[0].get("col")
    return f" (line {line}, column {column})" if line is not None else ""


_OPENING = frozenset({TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE, TokenType.CASE})
_CLOSING = frozenset({TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE, TokenType.END})
_PREFIX = frozenset({TokenType.NOT, TokenType.DASH, TokenType.PLUS, TokenType.TILDE, TokenType.EXISTS})
_FIRST = frozenset({TokenType.SELECT, TokenType.WITH, TokenType.L_PAREN})
_JOINING = frozenset({TokenType.AND, TokenType.OR})


def _check_tokens(tokens: list[Token]) -> None:
    """Refuse what the recursive parser could not survive, in one pass over the tokens."""
    depth = run = joints = 0
    for token in tokens:
        kind = token.token_type
        depth += (kind in _OPENING) - (kind in _CLOSING)
        run = run + 1 if kind in _PREFIX else 0
        joints += kind in _JOINING
        if depth > MAX_NESTING or run > MAX_NESTING:
            raise refusal(f"a statement is nested at most {MAX_NESTING} deep", "query.depth")
    if tokens and tokens[0].token_type not in _FIRST:
        # Not left to the parser, which would log the text of a statement that it does not know.
        raise refusal("only SELECT … FROM a dataset is allowed; no change of data", "query.select")
    for token, following in pairwise(tokens):
        if token.text.upper() == "NULLS" and following.text.upper() in ("FIRST", "LAST"):
            raise refusal("cells without a value always come last; leave NULLS out", "order.nulls")
    if joints > 2 * MAX_NODES or len(tokens) > _MAX_TOKENS:
        raise refusal(f"a predicate has at most {MAX_NODES} nodes; IN takes a list", "query.nodes")
