# SPDX-License-Identifier: Apache-2.0
"""A small data domain for tests of the SDK: real gRPC over mutual TLS on loopback, a real log, invented data.

It implements the protos, not the rules: what it refuses is what a test tells it to refuse (`refuse`).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf.message import Message

from weir import checkpoint, merkle, wire
from weir.canonical import canonical_json, commit
from weir.errors import InvalidRequest, UnknownName, WeirError
from weir.paillier import PublicKey, decode_ciphertexts, dot, encode_ciphertexts, mask_reply, verify_key_proof
from weir.query import canonicalise, query_json
from weir.question import request_digest
from weir.v1 import (
    answer_pb2,
    audit_service_pb2,
    catalogue_service_pb2,
    encrypted_service_pb2,
    policy_service_pb2,
    query_pb2,
    query_service_pb2,
    quota_service_pb2,
    receipt_pb2,
)

ORIGIN = "weir/test.example"
REGIONS = ("north", "south")
YEARS = (2024, 2025, None)
SIGNER = checkpoint.new_signer(ORIGIN, seed=bytes(range(32)))
SERVICES = (
    audit_service_pb2,
    catalogue_service_pb2,
    encrypted_service_pb2,
    policy_service_pb2,
    query_service_pb2,
    quota_service_pb2,
)
REPLY_BITS = 80
PLAN_HASH = "cd" * 32
TERMS = canonical_json({
    "contract": "c-1", "title": "Visits", "provider": "hospital", "requester": "alice", "dataset": "census",
    "purposes": ["research"], "modes": ["exact"], "dimensions": ["region"], "measures": ["income"],
    "aggregates": ["sum"], "epsilon": {"total": "0", "per_query": "0"}, "rho": {"total": "0", "per_query": "0"},
    "valid_from": "2026-01-01T00:00:00+00:00", "valid_until": "2030-01-01T00:00:00+00:00", "approval": "none",
    "approvers": 1, "k": 10, "regions": [], "signatures": "required", "seal_to": [],
    "duties": [{"duty": "delete", "sentence": "Delete the extract.", "due": "2026-06-01T00:00:00+00:00"}],
    "quotas": [{"metric": "epsilon_nano", "window": "lifetime", "zone": "UTC", "limit": "0"}],
    "rates": {
        "currency": "CNY", "per_query": "1", "per_cell": "0", "per_epsilon": "0", "per_encrypted_operation": "0",
    },
})  # fmt: skip
"""Canonical form of the domain's contract."""


def text(value: str) -> query_pb2.Literal:
    return query_pb2.Literal(text=value)


def contract() -> policy_service_pb2.Contract:
    """The domain's contract, offered and unsigned."""
    message = policy_service_pb2.Contract(
        id="c-1",
        requester="alice",
        provider="hospital",
        dataset="census",
        modes=["exact"],
        approval="none",
        state=policy_service_pb2.CONTRACT_STATE_OFFERED,
        canonical=TERMS,
        digest=hashlib.sha256(TERMS).hexdigest(),
        signed=True,
        k=10,
        aggregates=[query_pb2.AGGREGATE_FUNCTION_SUM],
        duties=[policy_service_pb2.Duty(id="delete", sentence="Delete the extract.")],
    )
    message.valid_until.FromDatetime(datetime(2030, 1, 1, tzinfo=UTC))
    message.duties[0].due.FromDatetime(datetime(2026, 6, 1, tzinfo=UTC))
    return message


def integer(value: int | None) -> query_pb2.Literal:
    return query_pb2.Literal() if value is None else query_pb2.Literal(integer=value)


def census_card() -> catalogue_service_pb2.Dataset:
    """Card of the invented dataset."""
    cell = catalogue_service_pb2.DimensionCell
    return catalogue_service_pb2.Dataset(
        name="census",
        title="Census",
        grade=catalogue_service_pb2.GRADE_GENERAL,
        grading_scheme="GB/T 43697-2024",
        unit="person",
        modes=[answer_pb2.MODE_EXACT, answer_pb2.MODE_ENCRYPTED],
        dimensions=[
            catalogue_service_pb2.Dimension(
                name="region", type="text", cells=[cell(value=text(name), label=name.title()) for name in REGIONS]
            ),
            catalogue_service_pb2.Dimension(
                name="year", type="integer", cells=[cell(value=integer(year)) for year in YEARS]
            ),
        ],
        measures=[
            catalogue_service_pb2.Measure(
                name="income", lower="0", upper="100.00", scale=2, unit="CNY", mode=answer_pb2.MODE_EXACT
            )
        ],
        snapshots=[catalogue_service_pb2.Snapshot(version=1, manifest_digest="ab")],
    )


@dataclass
class FakeLog:
    """A log with its own proofs, by the textbook recursion: an oracle independent of the code under test."""

    leaves: list[bytes] = field(default_factory=list)
    salts: list[bytes] = field(default_factory=list)

    def add(self, type: str, data: dict[str, object], commitments: dict[str, bytes] | None = None) -> int:
        index, salt = len(self.leaves), secrets.token_bytes(32)
        made = {label: commit(salt, label, value) for label, value in (commitments or {}).items()}
        event = {
            "specversion": "1.0",
            "id": str(index),
            "source": ORIGIN,
            "type": type,
            "subject": "contract/c-1",
            "time": "2026-01-01T00:00:00Z",
            "data": {**data, "commitments": made},
        }
        self.leaves.append(canonical_json(event))
        self.salts.append(salt)
        return index

    def root(self, start: int, end: int) -> bytes:
        if end == start:
            return hashlib.sha256(b"").digest()
        if end - start == 1:
            return merkle.leaf_hash(self.leaves[start])
        split = start + _below(end - start)
        return merkle.node_hash(self.root(start, split), self.root(split, end))

    def note(self, size: int | None = None) -> str:
        size = len(self.leaves) if size is None else size
        return checkpoint.sign(checkpoint.Checkpoint(ORIGIN, size, self.root(0, size)), SIGNER)

    def inclusion(self, index: int, start: int, end: int) -> list[bytes]:
        if end - start == 1:
            return []
        split = start + _below(end - start)
        if index < split:
            return [*self.inclusion(index, start, split), self.root(split, end)]
        return [*self.inclusion(index, split, end), self.root(start, split)]

    def consistency(self, old: int, new: int) -> list[bytes]:
        return [] if old in (0, new) else self._consistency(old, 0, new, whole=True)

    def _consistency(self, old: int, start: int, end: int, *, whole: bool) -> list[bytes]:
        if old == end - start:
            return [] if whole else [self.root(start, end)]
        split = _below(end - start)
        if old <= split:
            return [
                *self._consistency(old, start, start + split, whole=whole),
                self.root(start + split, end),
            ]
        return [
            *self._consistency(old - split, start + split, end, whole=False),
            self.root(start, start + split),
        ]

    def receipt(self, index: int) -> receipt_pb2.Receipt:
        size = len(self.leaves)
        return receipt_pb2.Receipt(
            leaf_index=index,
            leaf=self.leaves[index],
            salt=self.salts[index],
            inclusion_path=self.inclusion(index, 0, size),
            checkpoint=self.note(),
        )


def _below(count: int) -> int:
    """Largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


@dataclass
class FakeDomain:
    """State of the domain. Handlers are methods named as the calls; tests may replace any of them."""

    authority: _Authority
    log: FakeLog = field(default_factory=FakeLog)
    cosigned: str | None = None
    """The checkpoint that a witness has cosigned."""
    requests: list[tuple[str, Message]] = field(default_factory=list)
    refuse: dict[str, list[BaseException]] = field(default_factory=dict)
    """By call name, errors to answer the next calls with."""
    answers: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    keys: dict[str, PublicKey] = field(default_factory=dict)
    deadlines: list[float] = field(default_factory=list)
    metered: int = 0
    one_charge_at_a_time: Lock = field(default_factory=Lock)
    address: str = ""
    contract: policy_service_pb2.Contract = field(default_factory=lambda: contract())
    stops: set[tuple[Any, str]] = field(default_factory=set)
    """Scope and name of what is stopped."""
    lose_replies: int = 0
    """How many of the next queries are done, but their reply lost on the way."""

    def ListDatasets(self, request: Any) -> Message:
        names = [name for name in ("census", "census_b", "census_c") if request.search in name]
        at = int(request.page_token or 0)
        cards = []
        for name in names[at : at + 2]:
            card = census_card()
            card.name = name
            cards.append(card)
        token = str(at + 2) if at + 2 < len(names) else ""
        return catalogue_service_pb2.ListDatasetsResponse(datasets=cards, next_page_token=token)

    def GetDataset(self, request: Any) -> Message:
        if request.dataset != "census":
            raise UnknownName("no such dataset", field="dataset", rule="name.dataset")
        return catalogue_service_pb2.GetDatasetResponse(dataset=census_card())

    def EstimateQuery(self, request: Any) -> Message:
        return query_service_pb2.EstimateQueryResponse(
            decision=query_service_pb2.Decision(
                verdict=query_service_pb2.VERDICT_DENY,
                reasons=[query_service_pb2.DecisionReason(code="contract.mode", sentence="ask exactly")],
            ),
            epsilon_nano=request.envelope.epsilon_nano,
            cells=2,
            price_micro=1_500_000,
            snapshot=1,
            noise=[answer_pb2.Noise(distribution="discrete laplace", scale="2", interval95="6")],
        )

    def RunQuery(self, request: Any) -> Message:
        if request.idempotency_key not in self.answers:
            answer = answer_for(request.envelope.query, request.envelope.mode).SerializeToString()
            index = self._charge(answer, request.envelope, request_digest(request))
            self.answers[request.idempotency_key] = (answer, index)
        if self.lose_replies:
            self.lose_replies -= 1
            raise _Lost
        answer, index = self.answers[request.idempotency_key]
        return query_service_pb2.RunQueryResponse(answer=answer, receipt=self.log.receipt(index))

    def _charge(self, answer: bytes, asked: Any = None, digest: str = "") -> int:
        contract = "c-1" if asked is None else asked.contract
        subject = {"contract": contract, "requester": "alice", "dataset": "census", "lineage": "census"}
        charge = {"queries": "1", "price_micro": "1120000"}
        data = {"subject": subject, "charge": charge}
        made = {"answer": answer, "request": digest.encode()}
        if asked is not None:
            query = canonicalise(wire.query_from_proto(asked.query))
            made["query"] = canonical_json({**query_json(query), "snapshot": query.snapshot or 1})
        with self.one_charge_at_a_time:
            self.metered += 1
            self.log.add("weir.query.reserved", data)
            return self.log.add("weir.query.released", data, made)

    def ListReceipts(self, request: Any) -> Message:
        receipts = [self.log.receipt(index) for _, index in reversed(self.answers.values())]
        return query_service_pb2.ListReceiptsResponse(receipts=receipts)

    def ListContracts(self, request: Any) -> Message:
        return policy_service_pb2.ListContractsResponse(contracts=[self.contract])

    def SignContract(self, request: Any) -> Message:
        role = "provider" if self.contract.signatures else "requester"
        self.contract.signatures.add(
            role=role, party=json.loads(TERMS)[role], public_key=request.public_key, signature=request.signature
        )
        return policy_service_pb2.SignContractResponse(contract=self.contract)

    def AttestDuty(self, request: Any) -> Message:
        self.contract.duties[0].attested.FromDatetime(datetime(2026, 3, 1, tzinfo=UTC))
        return policy_service_pb2.AttestDutyResponse(contract=self.contract)

    def SetContractState(self, request: Any) -> Message:
        self.contract.state = request.state
        return policy_service_pb2.SetContractStateResponse(contract=self.contract)

    def ListApprovals(self, request: Any) -> Message:
        approval = policy_service_pb2.Approval(
            id="ap-1",
            state=policy_service_pb2.APPROVAL_STATE_WAITING,
            purpose="research",
            mode="encrypted",
            snapshot=3,
            key_id="sha256:" + "ab" * 32,
            key_owners=["alice", "carol"],
            weight_bits=16,
        )
        return policy_service_pb2.ListApprovalsResponse(approvals=[approval])

    def DecideApproval(self, request: Any) -> Message:
        state = "APPROVED" if request.approve else "REJECTED"
        approval = policy_service_pb2.Approval(
            id=request.approval, state=policy_service_pb2.ApprovalState.Value(f"APPROVAL_STATE_{state}")
        )
        return policy_service_pb2.DecideApprovalResponse(approval=approval)

    def ApplyPolicy(self, request: Any) -> Message:
        if request.expected_digest not in ("", "aa") or request.plan_hash not in ("", PLAN_HASH):
            raise InvalidRequest("the policy moved", field="plan_hash", rule="policy.moved")
        changes = [
            policy_service_pb2.PolicyChange(subject="contract/c-1", kind="changed", fields=["k: 10 → 5"], loosens=True)
        ]
        return policy_service_pb2.ApplyPolicyResponse(
            changes=changes, old_digest="aa", new_digest="bb", plan_hash=PLAN_HASH
        )

    def SetSuspension(self, request: Any) -> Message:
        (self.stops.add if request.suspended else self.stops.discard)((request.scope, request.name))
        return policy_service_pb2.SetSuspensionResponse()

    def ListSuspensions(self, request: Any) -> Message:
        stops = [policy_service_pb2.Suspension(scope=scope, name=name) for scope, name in sorted(self.stops)]
        return policy_service_pb2.ListSuspensionsResponse(suspensions=stops)

    def ListStandings(self, request: Any) -> Message:
        return policy_service_pb2.ListStandingsResponse(standings=[policy_service_pb2.Standing(requester="alice")])

    def ActivateSnapshot(self, request: Any) -> Message:
        return policy_service_pb2.ActivateSnapshotResponse(leaf_index=7)

    def _balance(self) -> quota_service_pb2.Balance:
        quota = quota_service_pb2.Quota(id="q-1", metric="queries", contract="c-1", window="day", zone="UTC", limit=6)
        balance = quota_service_pb2.Balance(quota=quota, used=2, held=1)
        balance.resets.FromDatetime(datetime(2026, 1, 2, tzinfo=UTC))
        return balance

    def GetBalance(self, request: Any) -> Message:
        return quota_service_pb2.GetBalanceResponse(balances=[self._balance()])

    def ListQuotas(self, request: Any) -> Message:
        return quota_service_pb2.ListQuotasResponse(balances=[self._balance()])

    def SetQuota(self, request: Any) -> Message:
        return quota_service_pb2.SetQuotaResponse(balance=quota_service_pb2.Balance(quota=request.quota, used=2))

    def GetCheckpoint(self, request: Any) -> Message:
        size = len(self.log.leaves)
        if request.cosigned_from:
            if self.cosigned is None:
                raise UnknownName("no witness has cosigned that much of the log yet", rule="log.cosigned")
            return audit_service_pb2.GetCheckpointResponse(checkpoint=self.cosigned)
        if request.known_size > size:
            raise InvalidRequest("no log is that long", field="known_size", rule="log.size")
        reply = audit_service_pb2.GetCheckpointResponse(checkpoint=self.log.note())
        if request.known_size:
            reply.consistency.old_size, reply.consistency.new_size = request.known_size, size
            reply.consistency.path.extend(self.log.consistency(request.known_size, size))
        return reply

    def ListEntries(self, request: Any) -> Iterator[Message]:
        end = request.end or len(self.log.leaves)
        for index in range(request.start, min(end, len(self.log.leaves))):
            leaf = self.log.leaves[index]
            if not request.type or json.loads(leaf)["type"] == request.type:
                entry = audit_service_pb2.LogEntry(index=index, leaf=leaf)
                yield audit_service_pb2.ListEntriesResponse(entries=[entry])

    def GetInclusionProof(self, request: Any) -> Message:
        size = request.tree_size or len(self.log.leaves)
        path = self.log.inclusion(request.index, 0, size)
        return audit_service_pb2.GetInclusionProofResponse(path=path, tree_size=size)

    def ListMeter(self, request: Any) -> Message:
        totals = [
            audit_service_pb2.MeterTotal(
                contract="c-1", requester="alice", dataset="census", metric=metric, used=each * self.metered
            )
            for metric, each in (("price_micro", 1_120_000), ("queries", 1))
            if self.metered
        ]
        return audit_service_pb2.ListMeterResponse(totals=totals, log_size=len(self.log.leaves))

    def RegisterPublicKey(self, request: Any) -> Message:
        key = PublicKey.from_bytes(request.modulus)
        verify_key_proof(key, request.proof, context=b"weir://test.example/requester/alice")
        self.keys[key.key_id] = key
        return encrypted_service_pb2.RegisterPublicKeyResponse(key_id=key.key_id)

    def RunEncryptedQuery(self, requests: Iterator[Any]) -> Iterator[Message]:
        response = encrypted_service_pb2.RunEncryptedQueryResponse
        header = next(requests).header
        self.requests.append(("header", header))
        key = self.keys[header.key_id]
        answer = answer_for(header.envelope.query, answer_pb2.MODE_EXACT)
        yield response(accepted=encrypted_service_pb2.HeaderAccepted(cells=header.weights))
        upload = b"".join(message.weights for message in requests)
        weights = decode_ciphertexts(key, upload)
        sums = [dot(key, weights, [int(cell) for cell in column.numerators]) for column in answer.values]
        masked = [mask_reply(key, item, bits=REPLY_BITS, entropy=secrets.token_bytes) for item in sums]
        results = encode_ciphertexts(key, masked)
        for column in answer.values:
            column.ClearField("numerators")
        described = encrypted_service_pb2.EncryptedAnswer(
            table=answer.SerializeToString(),
            key_id=key.key_id,
            reply_bits=REPLY_BITS,
            results_digest=hashlib.sha256(results).digest(),
            slots=1,
        ).SerializeToString()
        digest = hashlib.sha256(request_digest(header).encode() + hashlib.sha256(upload).digest()).hexdigest()
        index = self._charge(described, header.envelope, digest)
        yield response(results=results)
        completed = encrypted_service_pb2.EncryptedResult(answer=described, receipt=self.log.receipt(index))
        yield response(completed=completed)


def answer_for(query: Any, mode: int) -> answer_pb2.Answer:
    """Invented numbers in the shape that a query asks for."""
    cells = {"region": [text(name) for name in REGIONS], "year": [integer(year) for year in YEARS]}
    table = list(product(*(cells[name] for name in query.group_by)))
    answer = answer_pb2.Answer(dataset=query.dataset, snapshot=query.snapshot or 1, mode=answer_pb2.MODE_EXACT)
    for at, name in enumerate(query.group_by):
        answer.keys.add(name=name, cells=[row[at] for row in table])
    for aggregate in query.aggregates:
        _fill(answer, aggregate, len(table))
    if mode == answer_pb2.MODE_DP:
        answer.mode, answer.epsilon_nano = answer_pb2.MODE_DP, 500_000_000
        for column in answer.values:
            column.noise.CopyFrom(
                answer_pb2.Noise(
                    distribution="discrete laplace", scale="4", epsilon_nano=1, interval95="12", sensitivity="1"
                )
            )
    else:
        answer.coverage.covered.extend(["10"] * len(table))
        answer.coverage.left_out.extend(["2"] * len(table))
        answer.coverage.covered_total, answer.coverage.left_out_total = "30", "10"
    return answer


def _fill(answer: answer_pb2.Answer, aggregate: Any, size: int) -> None:
    function = wire.function_from_proto(aggregate.function)
    measure, name = aggregate.measure, function.value
    shown = f"{name}({measure})" if measure else name
    if name == "quantile":
        shown = f"quantile({measure},0.5)"
    if name == "histogram":
        for at, (lower, upper) in enumerate((("0", "50"), ("50", "100"))):
            column = answer.values.add(name=f"{shown}[{at}]", numerators=[str(at + 1)] * size)
            column.bucket.lower, column.bucket.upper = lower, upper
        return
    column = answer.values.add(name=shown, numerators=[str(100 + 7 * at) for at in range(size)])
    if measure:
        column.scale, column.unit = 2, "CNY"
    if name in ("avg", "variance", "stddev"):
        column.denominators.extend(["3"] * size)
        column.numerators[-1] = ""
    column.square_root = name == "stddev"


class _Lost(Exception):
    """The reply never arrives."""


@contextmanager
def fake_domain() -> Iterator[FakeDomain]:
    """A running domain."""
    authority = _Authority.make()
    domain = FakeDomain(authority)
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(tuple(_handlers(domain)))
    credentials = grpc.ssl_server_credentials(
        [authority.issue("localhost", uri=None)], authority.certificate, require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    domain.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield domain
    finally:
        server.stop(0).wait()


def identity_document(domain: FakeDomain, *, role: str = "requester", name: str = "alice") -> dict[str, object]:
    """An identity of the domain, as its file holds it."""
    key, certificate = domain.authority.issue(name, uri=f"weir://test.example/{role}/{name}")
    return {
        "weir_identity": 1,
        "name": name,
        "role": role,
        "domain": "test.example",
        "certificate": certificate.decode(),
        "private_key": key.decode(),
        "ca": domain.authority.certificate.decode(),
        "server_name": "localhost",
        "log_key": SIGNER.verifier.vkey,
        "address": domain.address,
    }


def identity_file(domain: FakeDomain, folder: Path, **who: str) -> Path:
    """The path of an identity file."""
    path = folder / f"{who.get('name', 'alice')}.weir"
    path.write_text(json.dumps(identity_document(domain, **who)))
    path.chmod(0o600)
    return path


def _handlers(domain: FakeDomain) -> Iterator[grpc.GenericRpcHandler]:
    from google.protobuf.message_factory import GetMessageClass

    for module in SERVICES:
        for service in module.DESCRIPTOR.services_by_name.values():
            methods = {}
            for call in service.methods:
                codec = {
                    "request_deserializer": GetMessageClass(call.input_type).FromString,
                    "response_serializer": GetMessageClass(call.output_type).SerializeToString,
                }
                if call.name == "RunEncryptedQuery":
                    methods[call.name] = grpc.stream_stream_rpc_method_handler(_streamed(domain, call.name), **codec)
                elif call.server_streaming:
                    methods[call.name] = grpc.unary_stream_rpc_method_handler(_streamed(domain, call.name), **codec)
                else:
                    methods[call.name] = grpc.unary_unary_rpc_method_handler(_unary(domain, call.name), **codec)
            yield grpc.method_handlers_generic_handler(service.full_name, methods)


def _unary(domain: FakeDomain, name: str) -> Callable[[Any, Any], Any]:
    def handle(request: Message, context: Any) -> Any:
        domain.requests.append((name, request))
        domain.deadlines.append(context.time_remaining())
        with _errors(domain, name, context):
            return getattr(domain, name)(request)

    return handle


def _streamed(domain: FakeDomain, name: str) -> Callable[[Any, Any], Iterator[Any]]:
    def handle(request: Any, context: Any) -> Iterator[Any]:
        if isinstance(request, Message):
            domain.requests.append((name, request))
        domain.deadlines.append(context.time_remaining())
        with _errors(domain, name, context):
            yield from getattr(domain, name)(request)

    return handle


@contextmanager
def _errors(domain: FakeDomain, name: str, context: Any) -> Iterator[None]:
    try:
        waiting = domain.refuse.get(name)
        if waiting:
            raise waiting.pop(0)
        yield
    except WeirError as error:
        status = wire.error_to_status(error)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
        context.abort(code, status.message)
    except _Lost:
        context.abort(grpc.StatusCode.UNAVAILABLE, "lost")


@dataclass
class _Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: bytes
    name: x509.Name

    @classmethod
    def make(cls) -> _Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        builder = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        return cls(key, builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), name)

    def issue(self, common: str, *, uri: str | None) -> tuple[bytes, bytes]:
        """Key and certificate in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
        names: list[x509.GeneralName] = [x509.DNSName("localhost")]
        if uri is not None:
            names = [x509.UniformResourceIdentifier(uri)]
        builder = _builder(subject, self.name, key).add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return key.private_bytes(encoding, form, serialization.NoEncryption()), certificate


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
    )
