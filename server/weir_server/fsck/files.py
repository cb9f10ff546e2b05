# SPDX-License-Identifier: Apache-2.0
"""Checks of the tlog-tiles files against the leaves. Files may lag behind; what they say must be a prefix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from weir.checkpoint import parse
from weir.errors import VerificationError
from weir_server.fsck.findings import Finding
from weir_server.fsck.tree import roots

_WIDTH = 256


def read_note(directory: Path) -> bytes | None:
    """The exported checkpoint; None where there is none. Read it BEFORE the books: a server may go on exporting."""
    try:
        return (directory / "checkpoint").read_bytes()
    except FileNotFoundError:
        return None


def check_files(directory: Path, leaves: Sequence[bytes], *, note: bytes | None) -> Iterator[Finding]:
    """Compares checkpoint, tiles and entry bundles with the leaves; a log that was never exported has none."""
    if note is None:
        return
    try:
        checkpoint, _ = parse(note.decode())
    except (VerificationError, UnicodeDecodeError):
        yield Finding(None, "fsck.files", "the checkpoint file is not a checkpoint")
        return
    size = checkpoint.size
    if size > len(leaves):
        yield Finding(len(leaves), "fsck.files", "the checkpoint file is of a longer log: leaves were lost")
        return
    hashes = [sha256(b"\x00" + leaf).digest() for leaf in leaves[:size]]
    if checkpoint.root != _root(hashes):
        yield Finding(None, "fsck.files", "the checkpoint file is of another log")
    for path, start, content in _expected(leaves[:size], hashes):
        if not _holds(directory / path, content):
            yield Finding(start, "fsck.files", f"file {path} is missing or differs from the leaves")


def _holds(file: Path, content: bytes) -> bool:
    """Whether a file has this content, or the full tile that replaced a partial one begins with it."""
    try:
        return file.read_bytes() == content
    except FileNotFoundError:
        full = file.parent.with_suffix("")
        return file.parent.suffix == ".p" and full.is_file() and full.read_bytes().startswith(content)


def _expected(leaves: Sequence[bytes], hashes: Sequence[bytes]) -> Iterator[tuple[str, int, bytes]]:
    """Path, first leaf and content of every file a reader of this size needs."""
    for start in range(0, len(leaves), _WIDTH):
        chunk = leaves[start : start + _WIDTH]
        bundle = b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in chunk)
        yield f"tile/entries/{_name(start // _WIDTH, len(chunk))}", start, bundle
    level, nodes = 0, list(hashes)
    while nodes:
        for start in range(0, len(nodes), _WIDTH):
            chunk = nodes[start : start + _WIDTH]
            path = f"tile/{level}/{_name(start // _WIDTH, len(chunk))}"
            yield path, start * _WIDTH**level, b"".join(chunk)
        full = len(nodes) // _WIDTH
        level, nodes = level + 1, [_root(nodes[i * _WIDTH : (i + 1) * _WIDTH]) for i in range(full)]


def _root(hashes: Sequence[bytes]) -> bytes:
    return roots(hashes, sizes={len(hashes)})[len(hashes)]


def _name(index: int, width: int) -> str:
    digits = f"{index:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    path = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return path if width == _WIDTH else f"{path}.p/{width}"
