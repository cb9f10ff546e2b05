# SPDX-License-Identifier: Apache-2.0
"""The file of token keys. What tokens it lets in stands in tests/attacks/test_tokens.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from tests.support.tokens import Issuer
from weir.errors import Unavailable
from weir_server.config import Oidc
from weir_server.identity.oidc import open_tokens, read_keys

ISSUER = Issuer()


def write(tmp_path: Path, *keys: Any) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": keys}))
    return path


def test_each_key_is_for_the_algorithms_of_its_own_type(tmp_path: Path) -> None:
    keys = read_keys(write(tmp_path, *(ISSUER.jwk(kid) for kid in ("rsa", "ec", "ed"))))
    assert {kid: set(key.algorithms) for kid, key in keys.items()} == {
        "rsa": {"RS256", "PS256"},
        "ec": {"ES256"},
        "ed": {"EdDSA"},
    }


def test_a_key_that_names_an_algorithm_is_for_that_one_alone(tmp_path: Path) -> None:
    keys = read_keys(write(tmp_path, ISSUER.jwk("rsa", alg="PS256"), ISSUER.jwk("ec", alg="RS256")))
    assert {kid: set(key.algorithms) for kid, key in keys.items()} == {"rsa": {"PS256"}}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(ISSUER.jwk("ec", kid="x", use="enc"), id="for encryption"),
        pytest.param(ISSUER.jwk("ec", kid=None), id="without an id"),
        pytest.param(ISSUER.jwk("ec", kid="x", crv="secp256k1"), id="of another curve"),
        pytest.param({"kty": "AKP", "kid": "x", "alg": "ML-DSA-44"}, id="of a type to come"),
    ],
)
def test_keys_for_other_uses_are_passed_over(tmp_path: Path, other: dict[str, Any]) -> None:
    assert set(read_keys(write(tmp_path, ISSUER.jwk("rsa"), other))) == {"rsa"}


def _small() -> dict[str, Any]:
    public = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    return {**RSAAlgorithm.to_jwk(public, as_dict=True), "kid": "x"}


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(_small(), id="an RSA key of 1024 bits"),
        pytest.param({**RSAAlgorithm.to_jwk(ISSUER.private["rsa"], as_dict=True), "kid": "x"}, id="a private key"),
        pytest.param({"kty": "oct", "k": "c2VjcmV0", "kid": "x"}, id="a shared secret"),
        pytest.param(ISSUER.jwk("ec"), id="one id twice"),
        pytest.param({"kty": "EC", "crv": "P-256", "kid": "x"}, id="a key without its point"),
        pytest.param([], id="a list"),
        pytest.param(3, id="a number"),
    ],
)
def test_a_file_with_a_key_that_should_not_be_there_is_refused_whole(tmp_path: Path, bad: Any) -> None:
    with pytest.raises(Unavailable) as caught:
        read_keys(write(tmp_path, ISSUER.jwk("ec"), bad))
    assert caught.value.rule == "oidc.jwks"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"keys": []}', '{"keys": 3}', '{"keys": [], "keys": []}', "\xff"])
def test_a_file_without_keys_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(Unavailable):
        read_keys(path)


def test_a_server_without_an_issuer_reads_no_file_and_one_with_an_issuer_needs_it(tmp_path: Path) -> None:
    assert open_tokens(Oidc(), data_dir=tmp_path) is None
    with pytest.raises(Unavailable):
        open_tokens(Oidc(issuer="i", audience="a", jwks_file="none.json"), data_dir=tmp_path)
