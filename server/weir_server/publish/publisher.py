# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of constants of our own
"""`publish`: from a card and its source to a sealed snapshot, inside the domain, once per version (DESIGN §5).

The order is fixed: card, source, facts by row, facts by unit, atoms, bounded rows, seal. Nothing that queries can open
exists before the last step. The work database holds single units' records; it lives in a directory of mode 0700 below
the data directory and is removed at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from weir.errors import PublicationError, Violation
from weir_server.catalog.card import DatasetCard, Grade, Mode
from weir_server.catalog.card_rules import check_card
from weir_server.catalog.snapshot import Snapshot
from weir_server.dp.layout import REPORT
from weir_server.engine.duckdb import Engine, open_engine
from weir_server.exact.lattice import exact_measures
from weir_server.exact.records import ATOMS, write_atoms
from weir_server.publish.atoms import TAKEN, build_cells, climb
from weir_server.publish.carry import Carried, carry, refuse_changed_card
from weir_server.publish.consent import evidence_path, withdrawn_held
from weir_server.publish.files import private_directory, seal, snapshot_directory, temporary_directory
from weir_server.publish.grounds import Grounds, establish
from weir_server.publish.members import create_current, create_empty, keep, load, members_path, prune, write_first
from weir_server.publish.source import RAW, read_source, source_path
from weir_server.publish.units import UNITS, build_units
from weir_server.publish.validate import count_rows

if TYPE_CHECKING:
    from weir_server.publish.bounded_report import Effect

_MEMBERS = "members.parquet"
MEMORY = "1GB"
"""What the engine may hold; the rest of the process needs little, so that 10 M rows stay under 2 GiB."""


@dataclass(frozen=True, slots=True)
class Report:
    """Counts of one publication, for the provider alone: all but `effects` are no releases, so no requester sees them.

    Of what dp hides nothing is counted exactly, not even for the provider: reports are kept and passed on."""

    rows: int = 0
    units: int = 0
    atoms: int = 0
    units_in_atoms: int = 0
    """Units behind the atoms' records, each record as of its own version."""
    units_outside: int = 0
    """Units of this version in no atom's cells; they are dropped."""
    atoms_by_level: dict[int, int] = field(default_factory=dict)
    too_narrow: int = 0
    """Cells that had k units and climbed because a width would not hold."""
    held_back: int = 0
    """Atoms whose old record was carried forward, since a class of changes had 1 to k - 1 units."""
    clipped: dict[str, int] = field(default_factory=dict)
    """Dimension to rows (bins), or exact measure to units, outside the bounds."""
    rounded: dict[str, int] = field(default_factory=dict)
    """Exact measure to rows rounded to its grid."""
    without_consent: int = 0
    """Units of the source that are left out, since no consent of theirs is in force."""
    withdrawn_held: int = 0
    """Units without consent now that still stand behind atoms' records that were carried forward."""
    bounded_files: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = ()
    """What the bounds of dp drop: a dp release, whose loss is booked before anybody is shown it."""
    effects_epsilon_nano: int = 0
    """Its loss."""


@dataclass(frozen=True, slots=True)
class Published:
    """A sealed snapshot."""

    directory: Path
    version: int
    manifest_digest: str
    report: Report


def publish(
    card: DatasetCard,
    *,
    card_directory: Path,
    data_dir: Path,
    version: int,
    previous: Snapshot | None,
    now: datetime,
    salt: bytes,
    source_override: Path | None = None,
    register_override: Path | None = None,
    threads: int = 2,
    progress: Callable[[str], None] | None = None,
) -> Published:
    """Publish `version` of the card's dataset.

    `card_directory`: a relative source location counts from here; `source_override` replaces it, and
    `register_override` the consent register. `previous`: the latest snapshot, whose atoms the new one continues; None
    for the first. `salt`: secret of the data directory, at least 16
    random bytes. `now`: aware. `progress`: gets a line for people at each step.

    Raises:
        PublicationError: the card or the data is refused; `violations` lists everything found.
    """
    say = progress or (lambda line: None)
    _refuse(check_card(card))
    if previous is not None:
        refuse_changed_card(card, previous)
    target = snapshot_directory(data_dir, card.name, version)
    if target.exists():
        raise PublicationError(f"version {version} of this dataset exists already", rule="snapshot.exists")
    private = private_directory(data_dir, card.name)
    with (
        temporary_directory(data_dir / "publishing", card.name) as work,
        temporary_directory(target.parent, str(version)) as draft,
    ):
        report, grounds = Report(), Grounds()
        if card.grade is not Grade.CORE:  # catalogued only: its source is not even opened
            path = source_path(card.source, card_directory=card_directory, override=source_override)
            register = None
            if card.consent is not None:
                register = source_path(card.consent.source, card_directory=card_directory, override=register_override)
            paths = _Paths(work, draft, private, card_directory, path, register)
            context = _Context(version, previous, salt, now)
            with _work_engine(paths, threads=threads) as engine:
                report, grounds = _build(card, engine=engine, paths=paths, context=context, say=say)
        say("sealing the snapshot")

        def keep_members(digest: str) -> None:
            if (work / _MEMBERS).exists():
                kept = members_path(private, version=version, manifest_digest=digest, salt=salt)
                keep(work / _MEMBERS, kept)
            if evidence_path(work).exists():
                keep(evidence_path(work), private / "consent" / f"{version}-{digest[:32]}.parquet")

        digest = seal(
            draft, target, card=card, version=version, published=now, basis=grounds.basis, before=keep_members
        )
    _prune(private, previous, version=version, digest=digest, salt=salt)
    return Published(target, version, digest, report)


@dataclass(frozen=True, slots=True)
class _Paths:
    work: Path
    draft: Path
    private: Path
    card: Path
    source: Path | None
    register: Path | None


@dataclass(frozen=True, slots=True)
class _Context:
    version: int
    previous: Snapshot | None
    salt: bytes
    now: datetime


def _prune(private: Path, previous: Snapshot | None, *, version: int, digest: str, salt: bytes) -> None:
    """Keep the members of this version and of the previous one, from which this one is built again if it is never
    activated."""
    kept = [members_path(private, version=version, manifest_digest=digest, salt=salt)]
    if previous is not None:
        older = members_path(private, version=previous.version, manifest_digest=previous.manifest_digest, salt=salt)
        kept.append(older)
    prune(private, keep=tuple(kept))


def _work_engine(paths: _Paths, *, threads: int) -> Engine:
    directories = [paths.work, paths.draft]
    directories += [paths.private] if paths.private.is_dir() else []
    directories += [path.parent for path in (paths.source, paths.register) if path is not None]
    return open_engine(
        paths.work / "work.duckdb",
        read_only=False,
        threads=threads,
        memory_limit=MEMORY,
        temp_directory=paths.work / "spill",
        directories=directories,
    )


def _build(
    card: DatasetCard,
    *,
    engine: Engine,
    paths: _Paths,
    context: _Context,
    say: Callable[[str], None],
) -> tuple[Report, Grounds]:
    say("reading the source")
    rows = read_source(card, engine=engine, path=paths.source, work=paths.work)
    grounds = _grounds(card, engine=engine, paths=paths, context=context)
    told = bool(exact_measures(card))  # dp alone hides how many rows and units there are
    say(f"checking every declared fact in {rows:,} rows" if told else "checking every declared fact")
    violations, noted = count_rows(card, rows=engine)
    more, units = build_units(card, rows=engine)
    _refuse([*violations, *more])
    report = Report()
    if told:
        report = Report(
            rows=rows,
            units=units.units,
            without_consent=grounds.left_out,
            clipped={**_noted(noted, "clipped", of=card), **units.clipped},
            rounded=_noted(noted, "rounded", of=card),
        )
    if exact_measures(card):
        say(f"building atoms of {units.units:,} units")
        report = _atoms(card, report, engine=engine, paths=paths, context=context)
    if any(measure.mode is Mode.DP for measure in card.measures):
        say("building bounded rows")
        report = _bounded(card, report, engine=engine, draft=paths.draft, salt=context.salt)
    return report, grounds


def _grounds(card: DatasetCard, *, engine: Engine, paths: _Paths, context: _Context) -> Grounds:
    violations, grounds = establish(
        card,
        engine=engine,
        card_directory=paths.card,
        register=paths.register,
        work=paths.work,
        now=context.now,
        salt=context.salt,
        version=context.version,
    )
    _refuse(violations)
    return grounds


def _atoms(card: DatasetCard, report: Report, *, engine: Engine, paths: _Paths, context: _Context) -> Report:
    build_cells(card, engine=engine)
    carried = Carried((), 0)
    if context.previous is None:
        create_empty(card, engine=engine)
    else:
        path = members_path(
            paths.private,
            version=context.previous.version,
            manifest_digest=context.previous.manifest_digest,
            salt=context.salt,
        )
        load(card, engine=engine, path=path)
        carried = carry(card, engine=engine, previous=context.previous, version=context.version, salt=context.salt)
    partition = climb(card, engine=engine, version=context.version)
    create_current(card, engine=engine, salt=context.salt)
    write_first(card, engine=engine, path=paths.work / _MEMBERS, version=context.version)
    atoms = (*carried.atoms, *partition.atoms)
    write_atoms(paths.draft / ATOMS, atoms, measures=[measure.name for measure in exact_measures(card)])
    held = sum(atom.n for atom in atoms)
    withdrawn = 0 if card.consent is None else withdrawn_held(engine)
    by_level: dict[int, int] = {}
    for atom in atoms:
        by_level[atom.level] = by_level.get(atom.level, 0) + 1
    return replace(
        report,
        atoms=len(atoms),
        units_in_atoms=held,
        units_outside=int(engine.one(f"SELECT count(*) FROM {UNITS} ANTI JOIN {TAKEN} USING (code)")),
        atoms_by_level=by_level,
        too_narrow=partition.too_narrow,
        held_back=carried.held_back,
        withdrawn_held=withdrawn,
    )


def _bounded(card: DatasetCard, report: Report, *, engine: Engine, draft: Path, salt: bytes) -> Report:
    # Imported here, so that a card without dp measures needs none of it.
    from weir_server.publish.bounded import write_bounded
    from weir_server.publish.bounded_report import write_report

    bounded = write_bounded(
        card, engine=engine, rows_relation=RAW, directory=draft, salt=salt, report_epsilon_nano=card.report_epsilon
    )
    if bounded.epsilon_nano:
        write_report(draft / REPORT, bounded.effects, epsilon_nano=bounded.epsilon_nano)
    return replace(
        report, bounded_files=bounded.files, effects=bounded.effects, effects_epsilon_nano=bounded.epsilon_nano
    )


def _noted(counts: dict[str, int], rule: str, *, of: DatasetCard) -> dict[str, int]:
    """Counts by this rule of what is answered exactly."""
    hidden = {item.name for item in of.measures if item.mode is Mode.DP}
    hidden |= {item.name for item in of.dimensions if item.row_level}
    found = ((key.partition(":")[2], count) for key, count in counts.items() if key.startswith(f"{rule}:"))
    return {name: count for name, count in found if name not in hidden}


def _refuse(violations: Iterable[Violation]) -> None:
    found = tuple(violations)
    if found:
        listed = "; ".join(f"{item.subject}: {item.rule} ({item.count})" for item in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise PublicationError(
            f"publication refused, {len(found)} declared facts do not hold: {listed}{more}",
            violations=found,
            rule="publication.facts",
        )
