# SPDX-License-Identifier: Apache-2.0
"""`weir standing`: how requesters stand, and the questionnaire by which they are assessed."""

from __future__ import annotations

import click

from weir.amounts import format_epsilon
from weir.questionnaire import MEANINGS, QUESTIONS, SCHEME, empty_document
from weir_client._governance import Standing
from weir_client.cli.output import Session, connected, table

_COLUMNS = (
    "requester",
    "level",
    "score",
    "tier",
    "until",
    "refusals",
    "disputes",
    "overdue",
    "k",
    "ε a query",
    "persons",
    "",
)


def register(group: click.Group) -> None:
    """Adds the command."""
    group.add_command(standing)


@click.group(invoke_without_command=True)
@connected
def standing(session: Session) -> None:
    """Show how you stand, or as an overseer how every requester does; print the questionnaire."""
    if click.get_current_context().invoked_subcommand is None:
        _show(session)


@standing.command("show")
@connected
def show_standings(session: Session) -> None:
    """Show score, tier, level and what follows from them."""
    _show(session)


@standing.command("questions")
@click.option("--lang", "language", type=click.Choice(sorted(MEANINGS)), default="en", show_default=True)
@connected
def questions(session: Session, language: str) -> None:
    """Print an assessment with nothing filled in, as a policy document. No service is asked."""
    asked = [
        {
            "question": question.id,
            "area": question.area,
            "weight": question.weight,
            "sentence": question.zh if language == "zh" else question.en,
        }
        for question in QUESTIONS
    ]
    content = {"scheme": SCHEME, "answers": list(MEANINGS[language]), "questions": asked}
    session.show(content, lambda: empty_document(language=language).rstrip("\n"))


def _show(session: Session) -> None:
    with session.client() as client:
        found = client.standings()
    session.show(found, lambda: table(_COLUMNS, [_row(item) for item in found], empty="No requesters."))


def _row(item: Standing) -> tuple[object, ...]:
    return (
        item.requester,
        item.level,
        item.score,
        item.tier,
        item.assessed_until.date().isoformat() if item.assessed_until else None,
        item.refusals,
        item.disputes,
        item.overdue_duties,
        item.k,
        None if item.epsilon_cap_nano is None else format_epsilon(item.epsilon_cap_nano),
        item.approvers,
        "blacklisted" if item.blacklisted else "",
    )
