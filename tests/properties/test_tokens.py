# SPDX-License-Identifier: Apache-2.0
"""Whatever is sent as a token: it is refused in one way, or it says what the issuer signed."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.tokens import AUDIENCE, ISSUER, SETTINGS, Issuer, forged
from weir.errors import Unauthenticated
from weir_server.config import parse_config
from weir_server.identity.authentication import _bearer
from weir_server.identity.oidc import Key, Token, check_token, read_token

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
AT = int(NOW.timestamp())
SIGNER = Issuer()
TERMS = parse_config(tomllib.loads(SETTINGS)).oidc
KEYS = {
    "rsa": Key(SIGNER.private["rsa"].public_key(), frozenset({"RS256", "PS256"})),
    "ec": Key(SIGNER.private["ec"].public_key(), frozenset({"ES256"})),
    "ed": Key(SIGNER.private["ed"].public_key(), frozenset({"EdDSA"})),
}
GOOD = SIGNER.token("ed", now=AT)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
CLAIMS = st.dictionaries(st.sampled_from(["iss", "aud", "sub", "iat", "exp", "nbf", "cnf", "scope"]), JSON, max_size=4)
HEADERS = st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "b64"]), JSON, max_size=4)


def read(text: str) -> Token | None:
    """What a text says as a token; None where it is refused. Anything else than a refusal is a failure."""
    try:
        return read_token(text, keys=KEYS, terms=TERMS)
    except Unauthenticated:
        return None


@given(st.text(max_size=200) | st.text(alphabet="eyJ.-_09azAZ=", max_size=200))
def test_no_text_breaks_the_reading(text: str) -> None:
    assert read(text) is None


@given(HEADERS, JSON, st.binary(max_size=80))
def test_nothing_that_the_issuer_did_not_sign_is_a_token(header: dict[str, Any], claims: Any, signature: bytes) -> None:
    assert read(forged(header, json.dumps(claims), signature)) is None
    trusted = {"alg": "EdDSA", "kid": "ed", **{key: header[key] for key in header.keys() - {"alg", "kid"}}}
    assert read(forged(trusted, json.dumps(claims), signature)) is None


@given(st.integers(0, len(GOOD) - 1), st.characters(codec="ascii"))
def test_a_token_with_one_letter_changed_says_the_same_or_nothing(index: int, letter: str) -> None:
    found = read(GOOD[:index] + letter + GOOD[index + 1 :])
    assert found is None or found == read(GOOD)


@given(CLAIMS, st.integers(-4000, 4000), st.sampled_from(["A" * 43, "B" * 43]))
def test_whatever_the_issuer_signs_counts_only_within_its_time_for_its_subject_and_certificate(
    changed: dict[str, Any], later: int, thumbprint: str
) -> None:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice-at-idp", "iat": AT, "exp": AT + 600, **changed}
    token = read(sign(claims))
    if token is None:
        return
    assert (claims["iss"], token.requester) == (ISSUER, {"alice-at-idp": "alice", "bob|idp": "bob"}[claims["sub"]])
    moment = datetime.fromtimestamp(AT + later, UTC)
    try:
        check_token(token, terms=TERMS, thumbprint=thumbprint, now=moment)
    except Unauthenticated:
        return
    assert claims["iat"] - 30 <= AT + later < claims["exp"] + 30
    assert claims.get("nbf", claims["iat"]) <= AT + later + 30
    assert "cnf" not in claims or claims["cnf"] == {"x5t#S256": thumbprint}


def sign(claims: dict[str, Any]) -> str:
    """Any claims under the Ed25519 key; PyJWT itself would refuse to sign most of them."""
    unsigned = forged({"alg": "EdDSA", "kid": "ed"}, json.dumps(claims)).rpartition(".")[0]
    signature = SIGNER.private["ed"].sign(unsigned.encode())
    return f"{unsigned}.{forged('', '', signature).rpartition('.')[2]}"


@given(st.lists(st.text(max_size=30) | st.binary(max_size=30), max_size=3).filter(bool))
def test_no_header_breaks_the_finding_of_a_token(headers: list[str | bytes]) -> None:
    try:
        found = _bearer(headers)
    except Unauthenticated:
        return
    assert len(headers) == 1
    assert isinstance(headers[0], str)
    assert headers[0].split(" ") == [headers[0][:6], found]


def test_the_signing_above_is_good_where_the_claims_are() -> None:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice-at-idp", "iat": AT, "exp": AT + 600}
    token = read(sign(claims))
    assert token is not None
    check_token(token, terms=TERMS, thumbprint="", now=NOW)
    with pytest.raises(Unauthenticated):
        check_token(token, terms=TERMS, thumbprint="", now=datetime.fromtimestamp(AT + 630, UTC))
