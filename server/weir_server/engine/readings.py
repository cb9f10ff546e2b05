# SPDX-License-Identifier: Apache-2.0
"""How texts are read as numbers and times: one grammar, whatever an engine's own casts would take for either.

A *number* is a sign, digits with at most one point, and an exponent of at most four digits; spaces around it and single
underscores between digits are no matter. A *time* is a date of the years 1 to 9999, year first, then perhaps a time of
day and a zone: `Z`, ` UTC` or an offset; digits beyond microseconds are cut off. Neither ever meets a binary float.

DuckDB reads every number of the grammar as meant, except one with an exponent and more digits than a decimal holds;
Spark reads plain ones so. The others are brought into plain form first.
"""

from __future__ import annotations

from collections.abc import Sequence

_BLANKS = "\t\n\v\f\r"
_SPACE = f"[{_BLANKS} ]*"
_DIGITS = "[0-9]+(?:_[0-9]+)*"
NUMBER = f"{_SPACE}[+-]?(?:{_DIGITS}(?:[.](?:{_DIGITS})?)?|[.]{_DIGITS})(?:[eE][+-]?0*[0-9](?:_?[0-9]){{0,3}})?{_SPACE}"
"""A pattern: a finite number, of any size."""
NOT_FINITE = f"{_SPACE}[+-]?(?:[nN][aA][nN]|[iI][nN][fF](?:[iI][nN][iI][tT][yY])?){_SPACE}"
"""A pattern: NaN or an infinity, by name."""
_DATE = "([0-9]{4})[-/]([0-9]{1,2})[-/]([0-9]{1,2})"
_CLOCK = "([01]?[0-9]|2[0-3]):([0-5]?[0-9])(?::([0-5]?[0-9])(?:[.]([0-9]{0,9}))?)?"
_ZONE = "Z| UTC|([+-])(0[0-9]|1[0-4])(?::?([0-5][0-9]))?"
_TIME = f"{_DATE}(?:[ T]{_CLOCK}(?:{_ZONE})?)?"

Arguments = Sequence[str]


def number_duckdb(arguments: Arguments) -> str:
    """Renders NUMBER for DuckDB, whose own cast is right but for an exponent after more digits than a double has."""
    value, whole, fraction = arguments[0], int(arguments[1]), int(arguments[2])
    text, cast = f"CAST({value} AS VARCHAR)", f"TRY_CAST({value} AS DECIMAL({whole + fraction}, {fraction}))"
    powered = f"regexp_full_match({text}, '{NUMBER}') AND contains(lower({text}), 'e')"
    odd = f"CASE WHEN {powered} THEN {_shifted(_marks(text), whole, fraction)} ELSE {cast} END"
    # The type is known when a statement is planned, so that only columns of text are ever measured.
    return f"(CASE WHEN typeof({value}) = 'VARCHAR' AND strlen({text}) > {_LONG} THEN {odd} ELSE {cast} END)"


def number_spark(arguments: Arguments) -> str:
    """Renders NUMBER for Spark, whose casts take other texts than DuckDB's."""
    value, whole, fraction = arguments[0], int(arguments[1]), int(arguments[2])
    kind, text = f"DECIMAL({whole + fraction}, {fraction})", f"CAST({value} AS STRING)"
    plain = f"{text} RLIKE '^[+-]?[0-9]{{1,{whole}}}([.][0-9]{{1,18}})?\\\\z'"
    odd = f"{text} RLIKE '^(?:{NUMBER})\\\\z'"
    moved = _named(_marks(text), _shifted(_TEXT, whole, fraction))
    return f"(CASE WHEN {plain} THEN TRY_CAST({text} AS {kind}) WHEN {odd} THEN {moved} END)"


_TEXT = "weir_text"


def _named(text: str, expression: str) -> str:
    """Of Spark: an expression that says its text many times by a name. Written out, a few of them are more code than
    Spark compiles, and it takes minutes to find that out; what has a name in a list it does not compile. One name is
    all there may be: Sail takes several times as long for each one within another."""
    return f"element_at(transform(array({text}), {_TEXT} -> {expression}), 1)"


_LONG = 22
"""Texts of up to so many characters are no matter to DuckDB's cast: 20 digits and an exponent."""


def _marks(text: str) -> str:
    """Digits, point, exponent and signs of minus of a number of the grammar."""
    return f"translate(lower({text}), '_+ {_BLANKS}', '')"


def _shifted(plain: str, whole: int, fraction: int) -> str:
    """A number, as `_marks` gives it, with its point where the exponent says, by its digits alone; NULL where it does
    not fit. One digit more than is kept is read, so that the cast rounds as if it had seen all."""
    mantissa = f"split_part({plain}, 'e', 1)"
    before = f"length(replace(split_part({mantissa}, '.', 1), '-', ''))"
    power = f"coalesce(TRY_CAST(split_part({plain}, 'e', 2) AS INT), 0)"
    left = whole + fraction + 2  # zeros before, so that the point never moves out of the text to the left
    row = f"concat(repeat('0', {left}), translate({mantissa}, '-.', ''), repeat('0', greatest({power}, 0)))"
    point = f"({left} + greatest({before} + {power}, {-fraction - 1}))"
    sign = f"CASE WHEN substring({plain}, 1, 1) = '-' THEN '-' ELSE '' END"
    fits = f"replace(substring({row}, 1, {point} - {whole}), '0', '') = ''"
    moved = (
        f"concat({sign}, substring({row}, {point} - {whole - 1}, {whole}), '.', "
        f"substring({row}, {point} + 1, {fraction + 1}))"
    )
    return f"(CASE WHEN {fits} THEN TRY_CAST({moved} AS DECIMAL({whole + fraction}, {fraction})) END)"


def steps_duckdb(arguments: Arguments) -> str:
    """Renders STEPS for DuckDB."""
    value, scale = arguments[0], int(arguments[1])
    if scale == 0:
        return f"CAST({value} AS HUGEINT)"
    if scale <= 9:  # any number below 10**19 times 10**9 still fits 38 digits with 9 after the point
        return f"CAST({value} * CAST({10**scale} AS DECIMAL({scale + 1}, 0)) AS HUGEINT)"
    return f"CAST(replace(CAST({value} AS VARCHAR), '.', '') AS HUGEINT)"


def steps_spark(arguments: Arguments) -> str:
    """Renders STEPS for Spark, whose product of decimals would give digits up."""
    return f"CAST(replace(CAST({arguments[0]} AS STRING), '.', '') AS DECIMAL(38, 0))"


def micros_duckdb(arguments: Arguments) -> str:
    """Renders EPOCH_MICROS for DuckDB."""
    text = arguments[0]
    known = f"regexp_full_match({text}, '{_TIME}') AND NOT starts_with({text}, '0000')"
    return f"(CASE WHEN {known} THEN epoch_us(TRY_CAST({text} AS TIMESTAMPTZ)) END)"


def micros_spark(arguments: Arguments) -> str:
    """Renders EPOCH_MICROS for Spark: the day by its cast, what follows by its digits."""
    given, text = arguments[0], _TEXT
    known = f"{given} RLIKE '^(?:{_TIME})\\\\z' AND NOT {given} LIKE '0000%'"

    def part(group: int) -> str:
        return f"regexp_extract({text}, '{_TIME}', {group})"

    def number(group: int) -> str:
        return f"coalesce(TRY_CAST({part(group)} AS BIGINT), 0)"

    day = f"concat_ws('-', {part(1)}, lpad({part(2)}, 2, '0'), lpad({part(3)}, 2, '0'))"
    clock = f"(({number(4)} * 60 + {number(5)}) * 60 + {number(6)}) * 1000000"
    fraction = f"CAST(rpad(substring({part(7)}, 1, 6), 6, '0') AS BIGINT)"
    offset = f"({number(9)} * 60 + {number(10)}) * 60000000"
    offset = f"CASE WHEN {part(8)} = '-' THEN -{offset} ELSE {offset} END"
    micros = f"unix_micros(TRY_CAST({day} AS TIMESTAMP)) + {clock} + {fraction} - {offset}"
    return f"(CASE WHEN {known} THEN {_named(given, micros)} END)"


def position_duckdb(arguments: Arguments) -> str:
    """Renders POSITION_OF for DuckDB."""
    return f"(list_position([{', '.join(arguments[1:])}], {arguments[0]}) - 1)"


def position_spark(arguments: Arguments) -> str:
    """Renders POSITION_OF for Spark."""
    return f"(nullif(array_position(array({', '.join(arguments[1:])}), {arguments[0]}), 0) - 1)"
