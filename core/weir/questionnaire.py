# SPDX-License-Identifier: Apache-2.0
"""`weir-recipient-1`: the questions by which a recipient of data is assessed, and the score that answers make. Pure.

Fifteen questions in five areas; each is answered 0 to 3 with evidence. The text of a question never changes within a
scheme: other questions or weights are another scheme, so that an old score keeps its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SCHEME = "weir-recipient-1"
MOST = 3
"""Highest answer."""
MEANINGS = {
    "en": ("nothing in place", "in part or informal", "in place and documented", "in place, documented and tested"),
    "zh": ("没有", "部分具备或未成文", "具备并成文", "具备、成文并经检验"),
}
"""What answers 0 to 3 mean, by language."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question."""

    id: str
    area: str
    """`organisation`, `access`, `environment`, `personnel` or `history`."""
    weight: int
    """Share of the score; all weights add up to 100."""
    en: str
    zh: str


AREAS: Mapping[str, tuple[str, str]] = {
    "organisation": ("Organisation", "组织与责任"),
    "access": ("Access control", "访问控制"),
    "environment": ("Processing environment", "处理环境"),
    "personnel": ("Personnel", "人员"),
    "history": ("Incident history", "事件历史"),
}
"""Title of each area in English and Chinese."""

QUESTIONS: tuple[Question, ...] = (
    Question(
        "org-responsible", "organisation", 8,
        "A named person answers for data security and reports to the management.",
        "有明确的数据安全负责人，并向管理层汇报。",
    ),
    Question(
        "org-rules", "organisation", 6,
        "Rules for classifying, using and deleting received data are in force.",
        "对接收数据的分类分级、使用和删除有正在执行的制度。",
    ),
    Question(
        "org-audit", "organisation", 6,
        "An independent body audits data security at least once a year.",
        "每年至少由独立机构进行一次数据安全审计。",
    ),
    Question(
        "acc-individual", "access", 8,
        "Every person has an account of their own with two factors; none is shared.",
        "每人使用独立账号和双因素认证，不共用账号。",
    ),
    Question(
        "acc-least", "access", 8,
        "Access follows need, is granted by somebody else, and is reviewed at least twice a year.",
        "按需授权、由他人审批，每年至少复核两次。",
    ),
    Question(
        "acc-keys", "access", 6,
        "Keys and certificates are kept so that no single person can copy them, and are replaced on schedule.",
        "密钥和证书的保管使任何个人无法单独复制，并按计划更换。",
    ),
    Question(
        "env-separate", "environment", 8,
        "Answers are processed on systems apart from the open internet and from other data of the same persons.",
        "结果在与互联网及同一人群的其他数据隔离的系统中处理。",
    ),
    Question(
        "env-encrypted", "environment", 6,
        "Storage and transport are encrypted, backups included.",
        "存储、传输和备份均加密。",
    ),
    Question(
        "env-logged", "environment", 6,
        "Use of received answers is logged, and the logs are kept and read.",
        "对所获结果的使用有日志，日志留存并有人查看。",
    ),
    Question(
        "env-deletion", "environment", 6,
        "Received answers are deleted when their purpose ends, and the deletion can be shown.",
        "目的达成后删除所获结果，并能证明已删除。",
    ),
    Question(
        "per-trained", "personnel", 6,
        "Everybody with access is trained in data protection before the first access and every year.",
        "接触人员在首次接触前及每年接受数据保护培训。",
    ),
    Question(
        "per-bound", "personnel", 6,
        "Everybody with access is bound to secrecy in writing, and to not re-identifying anybody.",
        "接触人员书面承诺保密且不作重新识别。",
    ),
    Question(
        "his-disclosed", "history", 8,
        "Security incidents of the last three years are disclosed, or their absence is stated in writing.",
        "已披露近三年的安全事件，或书面声明没有发生。",
    ),
    Question(
        "his-remedied", "history", 6,
        "Causes of past incidents and findings of audits were remedied within the time agreed.",
        "过往事件的原因和审计发现已在约定期限内整改。",
    ),
    Question(
        "his-response", "history", 6,
        "A plan for incidents names who informs the provider within 24 hours, and has been rehearsed.",
        "应急预案明确谁在24小时内通知提供方，并经过演练。",
    ),
)  # fmt: skip
"""Every question of the scheme, in the order in which they are asked."""


def score_of(answers: Mapping[str, int]) -> int:
    """Score of 0 to 100, rounded down: the weighted share of the highest answers. Exact.

    `answers`: 0 to 3 for every question of the scheme, no other keys.

    Raises:
        KeyError: a question is not answered.
    """
    return sum(question.weight * answers[question.id] for question in QUESTIONS) // MOST


def empty_document(*, language: str = "en") -> str:
    """The assessment in YAML with nothing filled in: every answer is null, so it is refused until somebody answers.

    `language`: `en` or `zh`, of the comments.
    """
    meanings = ", ".join(f"{value}: {word}" for value, word in enumerate(MEANINGS[language]))
    head = [
        f"# {meanings}",
        "kind: assessment",
        "requester:",
        f"scheme: {SCHEME}",
        "assessed_by:",
        "assessed_on:      # 2026-11-22",
        "valid_until:      # 2027-11-22",
        "answers:",
    ]
    return "\n".join([*head, *_asked(language)]) + "\n"


def _asked(language: str) -> list[str]:
    lines: list[str] = []
    for area, titles in AREAS.items():
        lines.append(f"  # {titles[language == 'zh']}")
        for question in QUESTIONS:
            if question.area == area:
                sentence = question.zh if language == "zh" else question.en
                lines += [
                    f"  # {sentence} ({question.weight}/100)",
                    f"  - question: {question.id}",
                    "    answer:",
                    "    evidence:",
                    "    # digest: sha256:…",
                ]
    return lines
