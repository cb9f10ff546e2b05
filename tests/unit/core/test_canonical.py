# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from weir.canonical import (
    Encoded,
    NotCanonical,
    canonical_json,
    commit,
    commit_all,
    digest,
    opens,
    parse_canonical,
)

SALT = bytes(range(32))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_keys_are_ordered_by_utf_16_and_spaces_left_out() -> None:
    # RFC 8785, section 3.2.3: by UTF-16 code units, so that an emoji comes before U+FB33.
    assert canonical_json({"\ufb33": 1, "\U0001f600": 2, "a": [True, None]}) == (
        '{"a":[true,null],"\U0001f600":2,"\ufb33":1}'.encode()
    )


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(0.5, id="float"),
        pytest.param({"a": [1.0]}, id="whole float, nested"),
        pytest.param(2**53, id="integer that some readers round"),
        pytest.param(-(2**53), id="negative integer that some readers round"),
        pytest.param("\ud800", id="lone surrogate"),
        pytest.param(b"raw", id="bytes"),
        pytest.param({1: "a"}, id="key that is not text"),
        pytest.param(object(), id="object"),
        pytest.param({"a": "\ud800"}, id="lone surrogate, nested"),
        pytest.param({"\ud800": 1}, id="lone surrogate in a key"),
        pytest.param({"a": {1, 2}}, id="set"),
    ],
)
def test_what_has_no_exact_form_is_refused(value: object) -> None:
    with pytest.raises(NotCanonical):
        canonical_json(value)


@given(values)
@example({"\ufb33": 1, "\U0001f600": 2})
@example([{"a": {"\uffff": '\x00\x1f\x7f\u2028\\"/', "\U00010000": -1}}])
def test_the_bytes_are_those_of_the_reference_implementation(value: object) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


@given(members=st.dictionaries(st.text(), values, max_size=6))
@example({"\U0001f600": 1, "\ufb33": {"\ufb33": 1, "\U0001f600": 2}})
def test_an_object_of_encoded_members_is_written_as_the_whole_would_be(members: dict[str, object]) -> None:
    mixed = {key: Encoded(canonical_json(value)) if n % 2 else value for n, (key, value) in enumerate(members.items())}
    assert canonical_json(mixed) == canonical_json(members) == rfc8785.dumps(members)  # type: ignore[arg-type]


@given(values)
def test_canonical_bytes_read_back_as_the_same_value(value: object) -> None:
    assert parse_canonical(canonical_json(value)) == value


@given(values)
def test_any_other_spelling_of_the_same_value_is_refused(value: object) -> None:
    spelled = json.dumps(value, indent=1).encode()
    if spelled != canonical_json(value):
        with pytest.raises(NotCanonical):
            parse_canonical(spelled)


@pytest.mark.parametrize("data", [b"", b"{", b'{"a":1,"a":1}', b"\xff", b"NaN", b"1.0", b'{"a": 1}', b"[" * 100_000])
def test_bytes_that_are_not_canonical_json_are_refused(data: bytes) -> None:
    with pytest.raises(NotCanonical):
        parse_canonical(data)


def test_digest_is_sha_256_in_hexadecimal() -> None:
    assert digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_commitment_opens_only_with_its_salt_label_and_data() -> None:
    made = commit(SALT, "answer", b"42")
    assert opens(made, salt=SALT, label="answer", data=b"42")
    assert not opens(made, salt=SALT, label="query", data=b"42")
    assert not opens(made, salt=SALT, label="answer", data=b"43")
    assert not opens(made, salt=SALT[::-1], label="answer", data=b"42")


@given(values=st.dictionaries(st.text(st.characters(min_codepoint=32, max_codepoint=126)), st.binary(max_size=40)))
def test_commitments_made_together_are_those_made_one_by_one(values: dict[str, bytes]) -> None:
    one_by_one = {label: commit(SALT, label, data) for label, data in values.items()}
    assert canonical_json(commit_all(SALT, values)) == canonical_json(one_by_one)


def test_label_and_data_cannot_run_into_each_other() -> None:
    assert commit(SALT, "an", b"swer") != commit(SALT, "answer", b"")


@pytest.mark.parametrize(("salt", "label"), [(b"short", "answer"), (SALT, "a\x00b"), (SALT, "é")])
def test_a_salt_of_another_length_or_an_unprintable_label_is_refused(salt: bytes, label: str) -> None:
    with pytest.raises(ValueError, match=r"salt|label"):
        commit(salt, label, b"")
