# SPDX-License-Identifier: Apache-2.0
"""The policy as files state it: looked at by kind, one document edited, the whole compared, and applied as compared."""

from __future__ import annotations

from starlette.responses import Response

from weir.errors import InvalidRequest, UnknownName
from weir.v1 import policy_service_pb2
from weir_server.console import calls
from weir_server.console.screens.screen import Screen
from weir_server.console.visit import Visit
from weir_server.policy import book
from weir_server.policy.documents import KINDS, parse_documents

PAGE = 50


async def show(visit: Visit) -> Response:
    """Documents of one kind by name."""
    kind = visit.query("kind") or KINDS[0].word
    chosen = next((item for item in KINDS if item.word == kind), None)
    if chosen is None:
        raise InvalidRequest("no such kind of document", field="kind", rule="policy.kind")
    after = visit.query("after")
    names = sorted(name for name in visit.world.policy.of(chosen) if name > after)
    return visit.page(
        "policy.html",
        kind=kind,
        kinds=[(item.word, len(visit.world.policy.of(item))) for item in KINDS],
        names=names[:PAGE],
        digest=visit.world.policy.digest,
        first=visit.link(after=None) if after else "",
        following=visit.link(after=names[PAGE - 1]) if len(names) > PAGE else "",
    )


async def show_document(visit: Visit) -> Response:
    """One document, to be edited; or an empty one, to be added."""
    kind, name = visit.query("kind"), visit.query("name")
    documents = await visit.read(calls.APPLY_POLICY, book.documents)
    text = "" if not name else _document(documents, kind, name)[1]
    return visit.page("document.html", kind=kind, name=name, text=text)


async def compare(visit: Visit) -> Response:
    """What applying the policy with the edited document would change."""
    documents, text = await _edited(visit)
    reply = await visit.call(
        calls.APPLY_POLICY, policy_service_pb2.ApplyPolicyRequest(documents=documents, dry_run=True)
    )
    return visit.page(
        "plan.html",
        kind=visit.field("kind"),
        name=visit.field("name"),
        remove=visit.field("act") == "remove",
        text=text,
        plan=reply,
    )


async def apply(visit: Visit) -> Response:
    """Applies exactly the difference that was looked at."""
    documents, _ = await _edited(visit)
    if not visit.field("plan_hash"):
        raise InvalidRequest("look at the difference first", field="plan_hash", rule="policy.moved")
    request = policy_service_pb2.ApplyPolicyRequest(
        documents=documents, plan_hash=visit.field("plan_hash"), idempotency_key=visit.key()
    )
    reply = await visit.call(calls.APPLY_POLICY, request)
    visit.desk.figures.nearly_used.forget()
    return visit.go("/policy", "policy.applied", number=str(len(reply.changes)))


async def _edited(visit: Visit) -> tuple[list[str], str]:
    """The policy's documents with the form's in place of the one it was made from; and the form's text."""
    kind, name, text = visit.field("kind"), visit.field("name"), visit.form.get("document", "").replace("\r\n", "\n")
    documents = await visit.read(calls.APPLY_POLICY, book.documents)
    at = _document(documents, kind, name)[0] if name else len(documents)
    if visit.field("act") == "remove":
        return [*documents[:at], *documents[at + 1 :]], text
    return [*documents[:at], text, *documents[at + 1 :]], text


def _document(documents: list[str], kind: str, name: str) -> tuple[int, str]:
    """Position and text of the document of this kind and name.

    Raises:
        UnknownName: there is none.
    """
    for at, text in enumerate(documents):
        # By its words first: reading every document strictly takes seconds where there are thousands.
        if name.rpartition("/")[2] in text and name in parse_documents([text]).values.get(kind, {}):
            return at, text
    raise UnknownName("no such document is in force", field="name", rule="policy.document")


_APPLIES = (calls.APPLY_POLICY,)
SCREENS = (
    Screen("policy", "/policy", show, _APPLIES),
    Screen("document", "/policy/document", show_document, _APPLIES),
    Screen("compare", "/policy/document/plan", compare, _APPLIES, "POST"),
    Screen("apply", "/policy/document/apply", apply, _APPLIES, "POST", proof=True),
)
