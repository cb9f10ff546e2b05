# SPDX-License-Identifier: Apache-2.0
"""Assessment of a recipient: somebody answered the questionnaire about it, with evidence, for a time.

What the score opens stands in the gates (`policy/gates.py`). The evidence itself stays with whoever assessed; its
digest ties it to the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from weir.questionnaire import MOST, QUESTIONS, SCHEME, score_of
from weir_server.policy.kinds import Kind
from weir_server.policy.reader import Reader, duplicates

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered question."""

    question: str
    answer: int
    """0 to 3."""
    evidence: str
    """What it rests on, for people."""
    digest: str
    """`sha256:` and 64 hex digits of the evidence; empty where none is kept."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """The answered questionnaire of one requester."""

    requester: str
    assessed_by: str
    assessed_on: datetime
    """First instant at which it counts."""
    valid_until: datetime
    """First instant at which it counts no longer."""
    answers: tuple[Answer, ...]
    """One for each question, in the order of the scheme."""

    @property
    def score(self) -> int:
        """0 to 100."""
        return score_of({answer.question: answer.answer for answer in self.answers})

    def holds(self, now: datetime) -> bool:
        """Whether it counts at `now`."""
        return self.assessed_on <= now < self.valid_until


def read_assessment(reader: Reader) -> Assessment | None:
    """An assessment as it is filed."""
    requester = reader.identifier("requester")
    reader.word("scheme", (SCHEME,), default=None)
    assessment = Assessment(
        requester=requester,
        assessed_by=reader.text("assessed_by"),
        assessed_on=reader.instant("assessed_on"),
        valid_until=reader.instant("valid_until"),
        answers=_read_answers(reader),
    )
    if assessment.assessed_on >= assessment.valid_until:
        reader.fault("valid_until", "must be after assessed_on")
    return assessment if not reader.faults else None


def _read_answers(reader: Reader) -> tuple[Answer, ...]:
    order = {question.id: place for place, question in enumerate(QUESTIONS)}
    answers = []
    for inner in reader.items("answers"):
        answers.append(_read_answer(inner))
        inner.finish()
    asked = [answer.question for answer in answers]
    if unknown := sorted(set(asked) - order.keys()):
        reader.fault("answers", f"answer questions that {SCHEME} does not ask: {', '.join(unknown)[:200]}")
    if missing := [question for question in order if question not in asked]:
        reader.fault("answers", f"leave out {', '.join(missing)}")
    reader.faults += duplicates(asked, "question")
    return tuple(sorted(answers, key=lambda answer: order.get(answer.question, 0)))


def _read_answer(reader: Reader) -> Answer:
    answer = Answer(
        question=reader.identifier("question"),
        answer=reader.count("answer"),
        evidence=reader.text("evidence"),
        digest=reader.text("digest") if reader.get("digest") is not None else "",
    )
    if answer.answer > MOST:
        reader.fault("answer", f"must be 0 to {MOST}")
    if answer.digest and not _DIGEST.fullmatch(answer.digest):
        reader.fault("digest", "must be sha256: and 64 hex digits")
    return answer


def assessment_json(assessment: Assessment) -> Mapping[str, object]:
    """JSON form."""
    return {
        "requester": assessment.requester,
        "scheme": SCHEME,
        "assessed_by": assessment.assessed_by,
        "assessed_on": assessment.assessed_on.isoformat(),
        "valid_until": assessment.valid_until.isoformat(),
        "answers": [
            {"question": a.question, "answer": a.answer, "evidence": a.evidence, "digest": a.digest}
            for a in assessment.answers
        ],
    }


def loosens(old: Assessment | None, new: Assessment | None) -> bool:
    """A higher score, or one that counts where none did. Who is not assessed is under the strictest gate."""
    if new is None:
        return False
    return old is None or new.score > old.score or not _within(new, old)


def _within(new: Assessment, old: Assessment) -> bool:
    return old.assessed_on <= new.assessed_on and new.valid_until <= old.valid_until


ASSESSMENT = Kind("assessment", read_assessment, lambda assessment: assessment.requester, assessment_json, loosens)
"""Assessments among the policy's documents."""
