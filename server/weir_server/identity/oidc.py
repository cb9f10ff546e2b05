# SPDX-License-Identifier: Apache-2.0
"""OpenID Connect bearer tokens: JWTs of one issuer, verified under keys of a local file and mapped to a requester.

A token comes beside a client certificate and never in its place. What is trusted is narrow: asymmetric algorithms from
a pinned list, keys from the file alone (a token's `jku`, `jwk`, `x5u` and `x5c` are not looked at), each key for
algorithms of its own type. PyJWT verifies the signature; claims are judged here, against the caller's clock.

Source: RFC 7519 (claims), RFC 8725 (best practice), RFC 7517 (keys), RFC 8705 §3 (tokens bound to certificates).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from weir.errors import Unauthenticated, Unavailable
from weir_server.config import Oidc
from weir_server.identity.watched import Watched

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
_LARGEST_FILE = 1024 * 1024
_LEAST_RSA_BITS = 2048
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_TYPES = (None, "JWT", "jwt", "at+jwt", "application/at+jwt")
"""`typ` of ID and access tokens; others (logout tokens, DPoP proofs) are signed with the same keys for another use."""
_CACHED = 4096
_LAST_TIME = 2**53
"""Seconds; beyond it, and at infinity, is no time."""


@dataclass(frozen=True, slots=True)
class Key:
    """A verification key."""

    public: PublicKey
    algorithms: frozenset[str]
    """Algorithms that it verifies."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a token with a good signature says: everything about it that does not change with time or connection."""

    requester: str
    issued: float
    """Seconds since the epoch, like the two below."""
    not_before: float
    expires: float
    certificate: str | None
    """Thumbprint of the only certificate that may show it (`cnf`); None for any."""


class Tokens:
    """Verification of one issuer's tokens, with a bounded cache. Used from one event loop."""

    def __init__(self, terms: Oidc, *, keys: Watched[Mapping[str, Key]]) -> None:
        self._terms = terms
        self._keys = keys
        self._read_under = keys.get()
        self._cache: OrderedDict[bytes, Token] = OrderedDict()

    def requester(self, text: str, *, thumbprint: str, now: datetime) -> str:
        """Name of the requester that a token stands for, on a connection of that certificate, at that time.

        Raises:
            Unauthenticated: the rule says which check failed; the token is never quoted.
        """
        if len(text) > self._terms.max_token_bytes:
            _refuse("size", f"a token is at most {self._terms.max_token_bytes} bytes")
        token = self._known(text)
        check_token(token, terms=self._terms, thumbprint=thumbprint, now=now)
        return token.requester

    def _known(self, text: str) -> Token:
        keys = self._keys.get()
        if keys is not self._read_under:
            # A key that left the file vouches for nothing any more.
            self._cache.clear()
            self._read_under = keys
        # By digest: a dump of the process must not be a list of tokens.
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).digest()
        found = self._cache.get(digest)
        if found is None:
            found = self._cache[digest] = read_token(text, keys=keys, terms=self._terms)
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(digest)
        return found


def open_tokens(terms: Oidc, *, data_dir: Path) -> Tokens | None:
    """Verification by the settings; None where they name no issuer. A relative file is one of the data directory.

    Raises:
        Unavailable: the file of keys cannot be used.
    """
    if not terms.issuer:
        return None
    path = data_dir / terms.jwks_file
    return Tokens(terms, keys=Watched((path,), lambda: read_keys(path)))


def read_keys(path: Path) -> Mapping[str, Key]:
    """Keys of a JWKS file by id. Keys for encryption and of other types are passed over.

    Raises:
        Unavailable: unreadable, no key set, a private key, one id twice, or no usable key.
    """
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_LARGEST_FILE), object_pairs_hook=_once)
        found = [_key(entry) for entry in content["keys"]]
    except (OSError, ValueError, TypeError, KeyError, RecursionError, jwt.PyJWTError) as error:
        raise Unavailable("the file of token keys is no JWKS", field="oidc.jwks_file", rule="oidc.jwks") from error
    usable = [pair for pair in found if pair is not None]
    if not usable:
        raise Unavailable("the file has no key that tokens can be verified with", rule="oidc.jwks")
    if len(dict(usable)) != len(usable):
        raise Unavailable("two token keys have one id", rule="oidc.jwks")
    return dict(usable)


def _key(entry: object) -> tuple[str, Key] | None:
    if not isinstance(entry, dict):
        raise TypeError("a key is an object")
    if not entry.keys().isdisjoint({"d", "k"}):
        raise ValueError("a secret key stands in the file")
    kid = entry.get("kid")
    if not isinstance(kid, str) or entry.get("use", "sig") != "sig":
        return None
    public, fitting = _public_key(entry)
    if public is None:
        return None
    named = entry.get("alg")
    algorithms = fitting if named is None else fitting & {named}
    return (kid, Key(public, algorithms)) if algorithms else None


def _public_key(entry: dict[str, Any]) -> tuple[PublicKey | None, frozenset[str]]:
    match entry.get("kty"), entry.get("crv"):
        case "RSA", _:
            key = RSAAlgorithm.from_jwk(entry)
            if not isinstance(key, rsa.RSAPublicKey) or key.key_size < _LEAST_RSA_BITS:
                raise ValueError("an RSA key is too small")
            return key, frozenset({"RS256", "PS256"})
        case "EC", "P-256":
            curve = ECAlgorithm.from_jwk(entry)
            return (
                (curve, frozenset({"ES256"})) if isinstance(curve, ec.EllipticCurvePublicKey) else (None, frozenset())
            )
        case "OKP", "Ed25519":
            edwards = OKPAlgorithm.from_jwk(entry)
            if isinstance(edwards, ed25519.Ed25519PublicKey):
                return edwards, frozenset({"EdDSA"})
    return None, frozenset()


def read_token(text: str, *, keys: Mapping[str, Key], terms: Oidc) -> Token:
    """A token whose signature and lasting claims are good.

    Raises:
        Unauthenticated: form, algorithm, key, signature, issuer, audience, lifetime, a required claim or the subject.
    """
    header = _header(text)
    payload = _verified(text, header, keys=keys, allowed=frozenset(terms.algorithms))
    claims = _json(payload)
    if claims.get("iss") != terms.issuer:
        _refuse("issuer", "the token is of another issuer")
    audience = claims.get("aud")
    if terms.audience not in (audience if isinstance(audience, list) else [audience]):
        _refuse("audience", "the token is for another audience")
    issued, expires = _time(claims, "iat"), _time(claims, "exp")
    if expires - issued > terms.max_age_seconds:
        _refuse("lifetime", f"a token lasts at most {terms.max_age_seconds} seconds")
    for name, wanted in terms.required.items():
        if wanted not in _words(name, claims.get(name)):
            _refuse("claim", "the token lacks a claim that this service demands")
    subject = claims.get(terms.claim)
    requester = terms.requesters.get(subject) if isinstance(subject, str) else None
    if requester is None:
        _refuse("subject", "the token names nobody whom this service knows")
    return Token(
        requester=requester,
        issued=issued,
        not_before=_time(claims, "nbf") if "nbf" in claims else issued,
        expires=expires,
        certificate=_bound_to(claims),
    )


def check_token(token: Token, *, terms: Oidc, thumbprint: str, now: datetime) -> None:
    """Whether a token holds now, on a connection of that certificate.

    Raises:
        Unauthenticated: expired, not yet valid, too old, or bound to another certificate.
    """
    moment, leeway = now.timestamp(), terms.leeway_seconds
    if moment >= token.expires + leeway:
        _refuse("expired", "the token has expired")
    if max(token.not_before, token.issued) > moment + leeway:
        _refuse("not_yet_valid", "the token is not valid yet")
    if moment - token.issued > terms.max_age_seconds + leeway:
        _refuse("age", "the token is too old")
    if token.certificate is not None and token.certificate != thumbprint:
        _refuse("binding", "the token is bound to another certificate")


def _header(text: str) -> dict[str, Any]:
    if not _FORM.fullmatch(text):
        _refuse("form", "the token is no JWT")
    part = text.partition(".")[0]
    try:
        header = _json(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:
        _refuse("form", "the token is no JWT")
    if "crit" in header or header.get("typ") not in _TYPES:
        _refuse("type", "the token is of a kind that this service does not take")
    return header


def _verified(text: str, header: dict[str, Any], *, keys: Mapping[str, Key], allowed: frozenset[str]) -> bytes:
    """The payload, once its signature is good."""
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in allowed:
        _refuse("algorithm", "the token is signed in a way that this service does not take")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        _refuse("key", "the token is signed with a key that this service does not know")
    # The key says which algorithms are its own: the header alone must never choose how a key is used.
    if algorithm not in key.algorithms:
        _refuse("algorithm", "the token is signed in a way that its key is not for")
    try:
        payload = jwt.PyJWS().decode(text, key.public, algorithms=[algorithm])
    except (jwt.PyJWTError, ValueError):
        _refuse("signature", "the token's signature is wrong")
    if not isinstance(payload, bytes):
        _refuse("form", "the token is no JWT")
    return payload


def _json(content: bytes) -> dict[str, Any]:
    """A JSON object in which no name stands twice: two readers could take a different one each."""
    try:
        found = json.loads(content, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        _refuse("form", "the token is no JWT")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    # Compared before it is converted: an integer may be longer than any float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LAST_TIME < value < _LAST_TIME:
        _refuse("times", f"the token needs a time in {name}")
    return float(value)


def _words(name: str, value: object) -> list[object]:
    """Values of a claim: one, or those of a list; `scope` is a list written with spaces (RFC 8693 §4.2)."""
    if isinstance(value, list):
        return value
    return list(value.split()) if name == "scope" and isinstance(value, str) else [value]


def _bound_to(claims: Mapping[str, Any]) -> str | None:
    if "cnf" not in claims:
        return None
    confirmation = claims["cnf"]
    if not isinstance(confirmation, dict) or set(confirmation) != {"x5t#S256"}:
        # Bound to something that is not checked here, such as a DPoP key: taking it would undo the binding.
        _refuse("binding", "the token is bound in a way that this service cannot check")
    thumbprint = confirmation["x5t#S256"]
    return thumbprint if isinstance(thumbprint, str) else ""


def _refuse(rule: str, sentence: str) -> NoReturn:
    raise Unauthenticated(sentence, rule=f"token.{rule}") from None
