# SPDX-License-Identifier: Apache-2.0
"""Checks of the log itself: leaves, hashes, inner nodes, head, checkpoints and their signatures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from hashlib import sha256

from weir.checkpoint import parse, verify
from weir.errors import VerificationError
from weir_server.fsck.findings import Finding
from weir_server.fsck.rows import Rows

_UNSIGNED = "weir.query.reserved"
_STORED_LEVELS = 2


def read_leaves(connection: Rows) -> list[bytes]:
    """Leaves by index up to the first gap; what lies behind a gap is reported by `check_tree`."""
    leaves: list[bytes] = []
    for index, leaf in connection.execute("SELECT idx, leaf FROM log_leaves ORDER BY idx"):
        if index != len(leaves) or not isinstance(leaf, bytes):
            break
        leaves.append(leaf)
    return leaves


def check_tree(connection: Rows, leaves: Sequence[bytes], *, vkey: str | None) -> Iterator[Finding]:
    """Compares everything stored about the tree with what the leaves give."""
    hashes = [sha256(b"\x00" + leaf).digest() for leaf in leaves]
    yield from _check_rows(connection, leaves, hashes)
    yield from _check_nodes(connection, hashes)
    yield from _check_checkpoints(connection, hashes, vkey)


def roots(hashes: Sequence[bytes], *, sizes: Set[int]) -> dict[int, bytes]:
    """Roots of the trees of these sizes: a stack of complete subtrees, folded from the right where asked."""
    stack: list[tuple[int, bytes]] = []
    found = {0: sha256(b"").digest()}
    for count, item in enumerate(hashes, start=1):
        stack.append((1, item))
        while len(stack) > 1 and stack[-1][0] == stack[-2][0]:
            width, right = stack.pop()
            _, left = stack.pop()
            stack.append((2 * width, _join(left, right)))
        if count in sizes:
            folded = stack[-1][1]
            for _, left in reversed(stack[:-1]):
                folded = _join(left, folded)
            found[count] = folded
    return found


def _check_rows(connection: Rows, leaves: Sequence[bytes], hashes: Sequence[bytes]) -> Iterator[Finding]:
    rows = connection.execute("SELECT idx, type, requester, hash FROM log_leaves ORDER BY idx")
    for count, (index, kind, requester, stored) in enumerate(rows):
        if count >= len(leaves):
            yield Finding(count, "fsck.gap", "the leaf is missing, later ones exist")
            return
        if stored != hashes[index]:
            yield Finding(index, "fsck.leaf", "the leaf does not hash to what was stored beside it")
        if (kind, requester) != _named(leaves[index]):
            yield Finding(index, "fsck.leaf_columns", "type or requester differ from the leaf")


def _named(leaf: bytes) -> tuple[str, str]:
    """Type and requester by which the leaf must be found."""
    try:
        event = json.loads(leaf)
        data, kind = event["data"], str(event["type"])
        mine = kind.startswith("weir.query.")
        return kind, str(data["subject"]["requester"]) if mine else ""
    except (ValueError, KeyError, TypeError):
        return "", ""


def _check_nodes(connection: Rows, hashes: Sequence[bytes]) -> Iterator[Finding]:
    """Every node that is stored, and that of every second level each one is; older books hold all levels."""
    level, nodes, known = 0, list(hashes), 0
    while nodes:
        rows = dict(connection.execute("SELECT idx, hash FROM log_nodes WHERE level = ?", (level,)))
        for index, node in enumerate(nodes):
            stored = rows.get(index)
            known += stored is not None
            if stored != node and (stored is not None or level % _STORED_LEVELS == 0):
                what = f"node {index} of level {level} is not the hash of its leaves"
                yield Finding(index << level, "fsck.node", what)
        pairs = len(nodes) // 2
        nodes = [_join(nodes[2 * i], nodes[2 * i + 1]) for i in range(pairs)]
        level += 1
    ((count,),) = connection.execute("SELECT COUNT(*) FROM log_nodes")
    if count != known:
        yield Finding(None, "fsck.node", f"{count} nodes are stored, of which the leaves make {known}")


def _check_checkpoints(connection: Rows, hashes: Sequence[bytes], vkey: str | None) -> Iterator[Finding]:
    head = list(connection.execute("SELECT origin, size, root FROM log_head"))
    notes = dict(connection.execute("SELECT size, note FROM log_checkpoints"))
    if not (head or hashes or notes):
        return  # A crash came before the log had its name; the next start gives it.
    by_size = roots(hashes, sizes={*notes, len(hashes)})
    if len(head) != 1 or tuple(head[0][1:]) != (len(hashes), by_size[len(hashes)]):
        yield Finding(None, "fsck.head", "the head is not that of the stored leaves")
    newest = max(notes, default=0)
    # Reservations may wait a moment for their signature; a process that died in that moment leaves them without.
    waiting = "SELECT COUNT(*) FROM log_leaves WHERE idx >= ? AND type = ?"
    ((unsigned,),) = connection.execute(waiting, (newest, _UNSIGNED))
    if newest + unsigned != len(hashes):
        yield Finding(None, "fsck.checkpoint", "the newest checkpoint is not that of the stored leaves")
    origin = head[0][0] if head else ""
    yield from _check_cosignatures(connection, notes)
    for size, note in sorted(notes.items()):
        yield from _check_note(size, note, origin, by_size.get(size), vkey)


def _check_note(size: int, note: object, origin: object, root: bytes | None, vkey: str | None) -> Iterator[Finding]:
    try:
        checkpoint = verify(str(note), vkey) if vkey else parse(str(note))[0]
    except VerificationError:
        yield Finding(size - 1, "fsck.checkpoint", f"the checkpoint of size {size} does not verify")
        return
    if (checkpoint.origin, checkpoint.size, checkpoint.root) != (origin, size, root):
        yield Finding(size - 1, "fsck.checkpoint", f"the checkpoint of size {size} is of another tree")


def _check_cosignatures(connection: Rows, notes: Mapping[int, object]) -> Iterator[Finding]:
    """Each line belongs to a checkpoint and names its key; whether it verifies is for whoever knows the witness."""
    if not connection.has_table("log_cosignatures"):
        return  # Books of an older Weir that was not started since.
    for size, name, line in connection.execute("SELECT size, name, line FROM log_cosignatures ORDER BY size, name"):
        try:
            signatures = parse(f"{notes[size]}{line}")[1].signatures
        except (KeyError, VerificationError):
            yield Finding(size - 1, "fsck.cosignature", f"a cosignature of size {size} is of no checkpoint")
            continue
        if not signatures or signatures[-1].name != name:
            yield Finding(size - 1, "fsck.cosignature", f"a cosignature of size {size} is of another key")


def _join(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()
