# SPDX-License-Identifier: Apache-2.0
"""Tokens made by somebody else than the issuer, for somebody else, or for another time: none stands for a requester."""

from __future__ import annotations

import hashlib
import hmac
import tomllib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.tokens import SETTINGS, Issuer, forged
from weir.errors import Unauthenticated
from weir_server.config import Oidc, parse_config
from weir_server.identity.oidc import Tokens, open_tokens

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
AT = int(NOW.timestamp())
ISSUER = Issuer()
MINE = "A" * 43
"""Thumbprint of the certificate that shows the token."""


def terms(**changed: Any) -> Oidc:
    return replace(parse_config(tomllib.loads(SETTINGS)).oidc, **changed)


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return tokens_of(tmp_path)


def tokens_of(tmp_path: Path, **changed: Any) -> Tokens:
    ISSUER.write_jwks(tmp_path / "jwks.json")
    found = open_tokens(terms(**changed), data_dir=tmp_path)
    assert found is not None
    return found


def token(kid: str = "rsa", **claims: Any) -> str:
    return ISSUER.token(kid, now=AT, **claims)


def hs256_with_the_public_key() -> str:
    text = forged({"alg": "HS256", "typ": "JWT", "kid": "rsa"}, {"iat": AT, "exp": AT + 60}).rstrip(".")
    mac = hmac.new(ISSUER.public_pem("rsa"), text.encode(), hashlib.sha256).digest()
    return forged({"alg": "HS256", "typ": "JWT", "kid": "rsa"}, {"iat": AT, "exp": AT + 60}, mac)


def strangers_token() -> str:
    own = Issuer(private={"rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048)})
    return own.token("rsa", now=AT)


def with_embedded_key() -> str:
    own = Issuer(private={"rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048)})
    return own.token("rsa", now=AT, headers={"jwk": own.jwk("rsa"), "jku": "https://evil.example/jwks"})


def altered() -> str:
    head, _, signature = token().split(".")
    return ".".join((head, forged({}, {"sub": "bob|idp", "iat": AT, "exp": AT + 60}).split(".")[1], signature))


ATTACKS: dict[str, tuple[Callable[[], str], str]] = {
    "no signature at all": (lambda: forged({"alg": "none", "kid": "rsa"}, {"iat": AT, "exp": AT + 60}), "algorithm"),
    "none in capitals": (lambda: forged({"alg": "NONE", "kid": "rsa"}, {"iat": AT, "exp": AT + 60}), "algorithm"),
    "HS256 with the public key as secret": (hs256_with_the_public_key, "algorithm"),
    "an algorithm that is no text": (lambda: forged({"alg": ["RS256"], "kid": "rsa"}), "algorithm"),
    "RS384, which is not on the list": (lambda: token(headers={"alg": "RS384"}), "algorithm"),
    "an unknown key id": (lambda: token(headers={"kid": "other"}), "key"),
    "no key id": (lambda: forged({"alg": "RS256"}), "key"),
    "a key id that is a number": (lambda: forged({"alg": "RS256", "kid": 1}), "key"),
    "an RSA token under the id of an EC key": (lambda: token(headers={"kid": "ec"}), "algorithm"),
    "an EC token under the id of an Ed25519 key": (lambda: token("ec", headers={"kid": "ed"}), "algorithm"),
    "an EdDSA token under the id of an RSA key": (lambda: token("ed", headers={"kid": "rsa"}), "algorithm"),
    "a stranger's key under a known id": (strangers_token, "signature"),
    "a key that the token brings along": (with_embedded_key, "signature"),
    "a claim changed after signing": (altered, "signature"),
    "a critical extension": (lambda: token(headers={"crit": ["b64"], "b64": True}), "type"),
    "a logout token": (lambda: token(headers={"typ": "logout+jwt"}), "type"),
    "a DPoP proof": (lambda: token(headers={"typ": "dpop+jwt"}), "type"),
    "two algorithms in one header": (lambda: forged('{"alg":"RS256","kid":"rsa","alg":"none"}'), "form"),
    "no JWT": (lambda: "opaque", "form"),
    "five parts, as an encrypted token has": (lambda: "a.b.c.d.e", "form"),
    "a header that is no base64": (lambda: "%%%.e30.", "form"),
    "a header that is a list": (lambda: forged("[]"), "form"),
    "a header nested very deeply": (lambda: forged("[" * 3000), "form"),
    "letters outside of ASCII": (lambda: "é.é.é", "form"),
    "longer than allowed": (lambda: token(note="x" * 9000), "size"),
    "another issuer": (lambda: token(iss="https://idp.example/"), "issuer"),
    "no issuer": (lambda: token(iss=None), "issuer"),
    "another audience": (lambda: token(aud="other"), "audience"),
    "no audience": (lambda: token(aud=None), "audience"),
    "an audience that only begins alike": (lambda: token(aud=["weir2", "wei"]), "audience"),
    "no end": (lambda: token(exp=None), "times"),
    "no beginning": (lambda: token(iat=None), "times"),
    "an end that is text": (lambda: token(exp=None, until=1, nbf="now"), "times"),
    "an end that is true": (lambda: token(exp=True), "times"),
    "an end that is longer than a float": (lambda: ISSUER.token("ed", now=AT, exp=10**400), "times"),
    "an end that is infinite": (
        lambda: ISSUER.token("ed", now=AT, exp=float("inf")),
        "times",
    ),
    "expired": (lambda: token(iat=AT - 600, exp=AT - 31), "expired"),
    "not yet valid": (lambda: token(nbf=AT + 31), "not_yet_valid"),
    "issued in the future": (lambda: token(iat=AT + 31), "not_yet_valid"),
    "a life longer than allowed": (lambda: token(exp=AT + 3601), "lifetime"),
    "an unknown subject": (lambda: token(sub="mallory"), "subject"),
    "no subject": (lambda: token(sub=None), "subject"),
    "a requester's name in place of the issuer's": (lambda: token(sub="alice"), "subject"),
    "bound to another certificate": (lambda: token(cnf={"x5t#S256": "B" * 43}), "binding"),
    "bound to a certificate in another form": (lambda: token(cnf={"x5t#S256": None}), "binding"),
    "bound to a DPoP key": (lambda: token(cnf={"jkt": "B" * 43}), "binding"),
    "bound twice": (lambda: token(cnf={"x5t#S256": MINE, "jkt": "B" * 43}), "binding"),
    "bound to nothing readable": (lambda: token(cnf="yes"), "binding"),
}


@pytest.mark.parametrize(("make", "rule"), ATTACKS.values(), ids=ATTACKS)
def test_a_token_that_is_not_what_it_seems_stands_for_nobody(
    tokens: Tokens, make: Callable[[], str], rule: str
) -> None:
    text = make()
    # Twice: what was refused must not be remembered as good.
    for _ in range(2):
        with pytest.raises(Unauthenticated) as caught:
            tokens.requester(text, thumbprint=MINE, now=NOW)
        assert caught.value.rule == f"token.{rule}"
        assert text not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize("kid", ["rsa", "ec", "ed"])
def test_a_token_of_the_issuer_stands_for_the_requester_it_maps_to(tokens: Tokens, kid: str) -> None:
    for _ in range(2):
        assert tokens.requester(token(kid), thumbprint=MINE, now=NOW) == "alice"
    assert tokens.requester(token(kid, sub="bob|idp", aud=["x", "weir"]), thumbprint=MINE, now=NOW) == "bob"
    assert tokens.requester(token(kid, headers={"typ": "at+jwt"}), thumbprint=MINE, now=NOW) == "alice"


def test_ps256_is_taken_of_an_rsa_key(tokens: Tokens) -> None:
    assert tokens.requester(token(headers={"alg": "PS256"}), thumbprint=MINE, now=NOW) == "alice"


def test_a_token_ends_at_its_end_however_often_it_was_taken_before(tokens: Tokens) -> None:
    text = token(exp=AT + 60)
    for seconds in (0, 59, 89):
        assert tokens.requester(text, thumbprint=MINE, now=NOW + timedelta(seconds=seconds)) == "alice"
    with pytest.raises(Unauthenticated, match="expired"):
        tokens.requester(text, thumbprint=MINE, now=NOW + timedelta(seconds=90))


def test_an_old_token_is_refused_by_its_age_where_the_limit_is_shorter_than_its_life(tmp_path: Path) -> None:
    tokens = tokens_of(tmp_path, max_age_seconds=60, leeway_seconds=0)
    text = token(exp=AT + 60)
    assert tokens.requester(text, thumbprint=MINE, now=NOW + timedelta(seconds=59)) == "alice"
    with pytest.raises(Unauthenticated) as caught:
        tokens.requester(text, thumbprint=MINE, now=NOW + timedelta(seconds=60))
    assert caught.value.rule == "token.expired"


def test_a_bound_token_is_good_on_its_own_connection_only_even_once_it_is_known(tokens: Tokens) -> None:
    text = token(cnf={"x5t#S256": MINE})
    assert tokens.requester(text, thumbprint=MINE, now=NOW) == "alice"
    with pytest.raises(Unauthenticated) as caught:
        tokens.requester(text, thumbprint="B" * 43, now=NOW)
    assert caught.value.rule == "token.binding"
    assert tokens.requester(text, thumbprint=MINE, now=NOW) == "alice"


def test_an_algorithm_that_the_settings_leave_out_is_refused(tmp_path: Path) -> None:
    tokens = tokens_of(tmp_path, algorithms=("ES256",))
    assert tokens.requester(token("ec"), thumbprint=MINE, now=NOW) == "alice"
    with pytest.raises(Unauthenticated) as caught:
        tokens.requester(token("rsa"), thumbprint=MINE, now=NOW)
    assert caught.value.rule == "token.algorithm"


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        pytest.param({"scope": "weir"}, True, id="the only scope"),
        pytest.param({"scope": "openid weir"}, True, id="one of two scopes"),
        pytest.param({"scope": "weird"}, False, id="a scope that begins alike"),
        pytest.param({"scope": ["weir"]}, True, id="a list"),
        pytest.param({"scope": None}, False, id="none"),
        pytest.param({"scope": {"weir": True}}, False, id="an object"),
    ],
)
def test_a_claim_that_the_settings_demand_must_have_that_value(
    tmp_path: Path, claims: dict[str, Any], *, good: bool
) -> None:
    tokens = tokens_of(tmp_path, required={"scope": "weir"})
    if good:
        assert tokens.requester(token(**claims), thumbprint=MINE, now=NOW) == "alice"
    else:
        with pytest.raises(Unauthenticated) as caught:
            tokens.requester(token(**claims), thumbprint=MINE, now=NOW)
        assert caught.value.rule == "token.claim"


def test_a_text_claim_with_spaces_is_one_value_unless_it_is_the_scope(tmp_path: Path) -> None:
    tokens = tokens_of(tmp_path, required={"role": "weir"})
    with pytest.raises(Unauthenticated):
        tokens.requester(token(role="not weir"), thumbprint=MINE, now=NOW)


def test_a_key_that_leaves_the_file_vouches_for_nothing_any_more(tmp_path: Path, tokens: Tokens) -> None:
    text = token("ec")
    assert tokens.requester(text, thumbprint=MINE, now=NOW) == "alice"
    ISSUER.write_jwks(tmp_path / "jwks.json", "rsa")
    with pytest.raises(Unauthenticated) as caught:
        tokens.requester(text, thumbprint=MINE, now=NOW)
    assert caught.value.rule == "token.key"
    assert tokens.requester(token("rsa"), thumbprint=MINE, now=NOW) == "alice"


@pytest.mark.parametrize(
    "content", ["", "{", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "x"}]}']
)
def test_a_broken_file_of_keys_keeps_the_keys_there_were(tmp_path: Path, tokens: Tokens, content: str) -> None:
    (tmp_path / "jwks.json").write_text(content)
    assert tokens.requester(token(), thumbprint=MINE, now=NOW) == "alice"
    (tmp_path / "jwks.json").unlink()
    assert tokens.requester(token(), thumbprint=MINE, now=NOW) == "alice"
    ISSUER.write_jwks(tmp_path / "jwks.json", "ec")
    with pytest.raises(Unauthenticated):
        tokens.requester(token(), thumbprint=MINE, now=NOW)


def test_a_flood_of_good_tokens_is_not_kept(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weir_server.identity.oidc._CACHED", 4)
    for number in range(9):
        assert tokens.requester(token("ed", jti=str(number)), thumbprint=MINE, now=NOW) == "alice"
    assert len(tokens._cache) == 4
