# SPDX-License-Identifier: Apache-2.0
"""What `weir audit verify` says of files of evidence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from weir.errors import InvalidReceipt
from weir.evidence import Evidence, is_evidence, verify_evidence


def split(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Files of evidence, and all others."""
    bundles = [path for path in paths if is_evidence(path.read_bytes())]
    return bundles, [path for path in paths if path not in bundles]


def checked(paths: Sequence[Path], *, log_key: str) -> list[tuple[Path, Evidence]]:
    """What each file proves.

    Raises:
        InvalidReceipt: the text names the file and the check that failed.
    """
    return [(path, _checked(path, log_key)) for path in paths]


def _checked(path: Path, log_key: str) -> Evidence:
    try:
        return verify_evidence(path.read_bytes(), vkey=log_key)
    except InvalidReceipt as error:
        error.message = f"{path}: {error.message}"
        raise


def evidence_json(path: Path, found: Evidence) -> dict[str, object]:
    """What it proves, as JSON."""
    return {
        "file": str(path),
        "case": found.case,
        "origin": found.checkpoint.origin,
        "size": found.checkpoint.size,
        "entries": [{"index": entry.index, "type": entry.event["type"]} for entry in found.entries],
        "opened": found.opened,
        "erased": list(found.erased),
        "contracts": list(found.contracts),
        "signatures": [
            {"digest": s.digest, "role": s.role, "party": s.party, "public_key": s.public_key.hex()}
            for s in found.signatures
        ],
        "decisions": list(found.decisions),
        "omitted": found.omitted,
    }


def evidence_text(path: Path, found: Evidence) -> str:
    """What holds, line by line, and what does not or can no longer be proved."""
    case, head = found.case, found.checkpoint
    lines = [
        f"✓ {path.name}: {case['id']}, {case['kind']}, {case['steps'][-1]['state']}",
        f"✓ {head.origin}: signed checkpoint of {head.size} entries; {len(found.entries)} entries are under it",
        f"✓ {len(case['steps'])} steps of the case say what their entries say",
        f"✓ {found.opened} commitments open: the statement and what decisions were made from",
        f"✓ {len(found.contracts)} texts of the contract are those that entries name",
        *(f"✓ signed by {s.role} {s.party} with key {s.public_key.hex()[:16]}…" for s in found.signatures),
    ]
    if found.erased:
        listed = ", ".join(map(str, found.erased))
        lines.append(f"- erased: what entries {listed} committed to can no longer be proved")
    if found.omitted:
        lines.append(f"- {found.omitted} older entries of the contract are not in the file")
    return "\n".join(lines)
