# SPDX-License-Identifier: Apache-2.0
"""Documents of assessments and gates, as operators write them."""

from __future__ import annotations

from typing import Any

import yaml

from weir.questionnaire import QUESTIONS, SCHEME


def assessment_document(requester: str = "alice", *, answer: int = 3, **changes: Any) -> str:
    """Every question answered alike: scores 0, 33, 66 or 100. Valid in 2026."""
    content: dict[str, Any] = {
        "kind": "assessment",
        "requester": requester,
        "scheme": SCHEME,
        "assessed_by": "an office",
        "assessed_on": "2026-01-01T00:00:00+00:00",
        "valid_until": "2027-01-01T00:00:00+00:00",
        "answers": [{"question": q.id, "answer": answer, "evidence": "seen"} for q in QUESTIONS],
    }
    return yaml.safe_dump(content | changes)


def gates_document(**changes: Any) -> str:
    """Score 80: free. Score 50: k 10, epsilon 1, nobody. Below and unassessed: k 20, epsilon 0.1, one person."""
    content: dict[str, Any] = {
        "kind": "gates",
        "tiers": [
            {"tier": "high", "least_score": 80},
            {"tier": "middle", "least_score": 50, "k": 10, "epsilon_per_query": "1"},
        ],
        "unassessed": {"k": 20, "epsilon_per_query": "0.1", "approvers": 1},
        "standing": {
            "watched": {"refusals": 3, "approvers": 1},
            "restricted": {"refusals": 6, "approvers": 2, "epsilon_per_query": "0.05"},
        },
    }
    return yaml.safe_dump(content | changes)
