# SPDX-License-Identifier: Apache-2.0
"""An OpenID issuer for tests: keys, its JWKS file, and tokens with anything in them.

issuer = Issuer()
issuer.write_jwks(data_dir / "jwks.json")
issuer.token(sub="alice-at-idp")                       # good for the settings of `SETTINGS`
issuer.token(exp=None, headers={"kid": "other"})       # a claim left out, a header changed
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://idp.example"
AUDIENCE = "weir"
SETTINGS = f"""
[oidc]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
jwks_file = "jwks.json"

[oidc.requesters]
alice-at-idp = "alice"
"bob|idp" = "bob"
"""
_PRIVATE: dict[str, Any] = {
    "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ec": ec.generate_private_key(ec.SECP256R1()),
    "ed": ed25519.Ed25519PrivateKey.generate(),
}
ALGORITHM = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}


@dataclass
class Issuer:
    """One issuer with a key of each type, ids `rsa`, `ec` and `ed`."""

    private: dict[str, Any] = field(default_factory=lambda: dict(_PRIVATE))

    def jwk(self, kid: str, /, **changed: Any) -> dict[str, Any]:
        """Public JWK of a key."""
        public = self.private[kid].public_key()
        algorithm: Any = {"rsa": RSAAlgorithm, "ec": ECAlgorithm, "ed": OKPAlgorithm}[kid]
        entry = {**algorithm.to_jwk(public, as_dict=True), "kid": kid, "use": "sig", **changed}
        return {name: value for name, value in entry.items() if value is not None}

    def jwks(self, *kids: str) -> dict[str, Any]:
        """Key set of some of the keys; of all of them by default."""
        return {"keys": [self.jwk(kid) for kid in kids or self.private]}

    def write_jwks(self, path: Path, *kids: str) -> Path:
        """Writes the key set, as an operator would: beside and then in place."""
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(self.jwks(*kids)), encoding="utf-8")
        return draft.replace(path)

    def token(
        self, kid: str = "rsa", *, now: float | None = None, headers: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A signed token; claims that are None are left out."""
        headers = {"kid": kid, **(headers or {})}
        algorithm = headers.pop("alg", ALGORITHM[kid])
        return jwt.encode(_claims(now, claims), self.private[kid], algorithm=algorithm, headers=headers)

    def public_pem(self, kid: str) -> bytes:
        """What anybody knows of a key, as text."""
        public = self.private[kid].public_key()
        encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return bytes(public.public_bytes(encoding, form))


def forged(header: dict[str, Any] | str, claims: dict[str, Any] | str | None = None, signature: bytes = b"") -> str:
    """A token put together by hand; texts go in as they are."""
    body = claims if isinstance(claims, str) else json.dumps(_claims(None, claims or {}))
    head = header if isinstance(header, str) else json.dumps(header)
    return ".".join(_base64(part) for part in (head.encode(), body.encode(), signature))


def _claims(now: float | None, changed: dict[str, Any]) -> dict[str, Any]:
    moment = int(time.time() if now is None else now)
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice-at-idp", "iat": moment, "exp": moment + 600, **changed}
    return {name: value for name, value in claims.items() if value is not None}


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
