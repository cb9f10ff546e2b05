# SPDX-License-Identifier: Apache-2.0
"""Mixed traffic: what several requesters ask of the sample's domain, as bytes ready to send.

Every question has an answer that is known beforehand to be the same for all who ask it: exact ones by arithmetic, dp
ones because noise is drawn once. `Ask.same` names the question, so that whoever collects answers can tell.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from tests.support.paillier import real_keypair
from tests.support.sample import CONTRACTS, envelope, spending_envelope
from tests.support.wire import call, key
from weir.paillier import encode_ciphertexts
from weir.v1 import encrypted_service_pb2 as pb
from weir.v1 import query_service_pb2

RUN = "/weir.v1.QueryService/RunQuery"
RUN_ENCRYPTED = "/weir.v1.EncryptedQueryService/RunEncryptedQuery"
ESTIMATE = "/weir.v1.QueryService/EstimateQuery"
REQUESTERS = ("alice", "bob", "carol")
CAPPED = "quentin"
"""Asks more often than its limit lets it."""
CAP = 200
"""Queries that `CAPPED` may have answered, for life."""
MIX = {"exact": 45, "exact_again": 20, "dp": 10, "dp_again": 10, "estimate": 4, "refused": 6, "capped": 5}
"""Share of each kind, in percent."""
_GROUPS = (("region",), ("age",), ("region", "age"), ())
_EPSILON = 100_000
"""Nano-epsilon of a fresh dp question: 10,000 of them cost one."""
_QUOTA = """
kind: quota
quota: {name}-queries
requester: {name}
metric: queries
window: lifetime
limit: {limit}
"""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    kind: str
    """A key of `MIX`."""
    requester: str
    rpc: str
    body: bytes
    key: str
    """Idempotency key; empty for an estimate."""
    same: str
    """Asks of one name get one answer, whoever asks; empty where there is none."""
    upload: bytes = b""
    """Second message of a stream; empty where the request is one message."""


def documents(*, limit: int = 10**9, requesters: tuple[str, ...] = REQUESTERS) -> tuple[str, ...]:
    """Contracts on both datasets for every requester, and what each may ask in all."""
    made = []
    for name in (*requesters, CAPPED):
        for text in CONTRACTS[:2]:
            named = text.replace("requester: alice", f"requester: {name}")
            made.append(named.replace("contract: c-", f"contract: {name}-"))
        made.append(_QUOTA.format(name=name, limit=CAP if name == CAPPED else limit))
    return tuple(made)


class Secret:
    """Encrypted queries of one requester under one key; the same three weights each time."""

    def __init__(self, channel: grpc.Channel, *, requester: str) -> None:
        """`channel`: of that requester, to register the key over."""
        self._requester = requester
        keypair = real_keypair(2048)
        proof = keypair.prove(f"weir://test.weir/requester/{requester}".encode())
        request = pb.RegisterPublicKeyRequest(modulus=keypair.public.to_bytes(), proof=proof)
        self._key_id = call(channel, "/weir.v1.EncryptedQueryService/RegisterPublicKey", request).key_id
        weights = encode_ciphertexts(keypair.public, keypair.encrypt_many([3, -2, 5]))
        self._upload = pb.RunEncryptedQueryRequest(weights=weights).SerializeToString()

    def next(self) -> Ask:
        """The next request."""
        token = key()
        header = pb.EncryptedQueryHeader(
            envelope=envelope(contract=f"{self._requester}-visits"),
            idempotency_key=token,
            key_id=self._key_id,
            weights=3,
            weight_bits=16,
        )
        body = pb.RunEncryptedQueryRequest(header=header).SerializeToString()
        return Ask("encrypted", self._requester, RUN_ENCRYPTED, body, token, "", self._upload)


class Traffic:
    """An endless mix, the same for the same `seed` but for idempotency keys. Fresh questions never come twice."""

    def __init__(self, *, seed: int = 1, mix: dict[str, int] = MIX, requesters: tuple[str, ...] = REQUESTERS) -> None:
        self._random = random.Random(seed)
        self._kinds, self._shares = list(mix), list(itertools.accumulate(mix.values()))
        self._requesters = requesters
        self._number = itertools.count()
        self._makers: dict[str, Callable[[str], Ask]] = {
            "exact": self._exact, "exact_again": self._exact_again, "dp": self._dp, "dp_again": self._dp_again,
            "estimate": self._estimate, "refused": self._refused, "capped": self._capped,
        }  # fmt: skip

    def next(self) -> Ask:
        """The next request."""
        (kind,) = self._random.choices(self._kinds, cum_weights=self._shares)
        return self._makers[kind](self._random.choice(self._requesters))

    def _exact(self, name: str) -> Ask:
        # Weights make each list of aggregates, and so each release, a new one; an exact answer is the same under all.
        number = next(self._number)
        group_by = _GROUPS[number % 4]
        message = envelope(contract=f"{name}-visits", group_by=group_by)
        message.query.aggregates[0].weight = number // 4 % 999 + 1
        message.query.aggregates[1].weight = number // 3996 % 999 + 1
        return _run("exact", name, message, same="exact/" + "+".join(group_by))

    def _exact_again(self, name: str) -> Ask:
        group_by = self._random.choice(_GROUPS)
        message = envelope(contract=f"{name}-visits", group_by=group_by)
        return _run("exact_again", name, message, same="exact/" + "+".join(group_by))

    def _dp(self, name: str) -> Ask:
        epsilon = _EPSILON + next(self._number)
        return self._spending("dp", name, epsilon)

    def _dp_again(self, name: str) -> Ask:
        return self._spending("dp_again", name, 50_000_000 + self._random.randrange(4))

    def _spending(self, kind: str, name: str, epsilon: int) -> Ask:
        message = spending_envelope(epsilon_nano=epsilon)
        message.contract = f"{name}-spending"
        return _run(kind, name, message, same=f"dp/{epsilon}")

    def _estimate(self, name: str) -> Ask:
        request = query_service_pb2.EstimateQueryRequest(envelope=envelope(contract=f"{name}-visits"))
        return Ask("estimate", name, ESTIMATE, request.SerializeToString(), "", "")

    def _refused(self, name: str) -> Ask:
        """Another requester's contract, a purpose that none names, a dimension that there is not."""
        message = envelope(contract=f"{name}-visits")
        match self._random.randrange(3):
            case 0:
                message.contract = f"{CAPPED}-visits"
            case 1:
                message.purpose = "sale"
            case _:
                message.query.group_by[0] = "nowhere"
        return _run("refused", name, message, same="")

    def _capped(self, name: str) -> Ask:
        return _run("capped", CAPPED, envelope(contract=f"{CAPPED}-visits"), same="exact/region")


def _run(kind: str, requester: str, message: query_service_pb2.QueryEnvelope, *, same: str) -> Ask:
    token = key()
    request = query_service_pb2.RunQueryRequest(envelope=message, idempotency_key=token)
    return Ask(kind, requester, RUN, request.SerializeToString(), token, same)
