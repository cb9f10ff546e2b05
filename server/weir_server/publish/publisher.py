# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of constants of our own
"""`publish`: from a card and its source to a sealed snapshot, inside the domain, once per version (DESIGN §5).

The order is fixed: card, source, facts by row, facts by unit, atoms, bounded rows, seal. Nothing that queries can open
exists before the last step. The work database holds single units' records, unless the source is on a cluster: then they
stay there, and aggregates come here. It lives in a directory of mode 0700 below the data directory and is removed at
the end.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from weir.canonical import SALT_BYTES
from weir.errors import PublicationError, Violation
from weir_server.catalog.card import DatasetCard, Grade, Mode
from weir_server.catalog.card_rules import check_card
from weir_server.catalog.lineage_rules import hides_rows
from weir_server.catalog.snapshot import Snapshot
from weir_server.dp.layout import REPORT
from weir_server.engine.duckdb import Engine, open_engine
from weir_server.engine.spark import Cluster
from weir_server.exact.lattice import exact_measures
from weir_server.exact.records import ATOMS, read_atoms, write_atoms
from weir_server.publish.atoms import CELLS, TAKEN, build_cells, climb
from weir_server.publish.carry import Carried, carry, refuse_changed_card, renewed_members
from weir_server.publish.consent import keep_evidence, withdrawn_held
from weir_server.publish.files import private_directory, seal, snapshot_directory, temporary_directory
from weir_server.publish.grounds import Grounds, establish
from weir_server.publish.members import keep_members, load, members_path, prune, write
from weir_server.publish.place import Place, working_on
from weir_server.publish.source import RAW, read_source, source_path
from weir_server.publish.units import build_units
from weir_server.publish.validate import count_rows

if TYPE_CHECKING:
    from weir_server.publish.bounded_report import Effect

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
    """Atoms whose old record was carried forward, and cells that formed none, since all records together would have
    told 1 to k - 1 units apart."""
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
    entropy: Callable[[int], bytes] = secrets.token_bytes,
    source_override: Path | None = None,
    register_override: Path | None = None,
    cluster: Cluster | None = None,
    accept_shrink: bool = False,
    threads: int = 2,
    progress: Callable[[str], None] | None = None,
) -> Published:
    """Publish `version` of the card's dataset. The caller sees to it that nobody else does (`files.publishing_alone`).

    `card_directory`: a relative source location counts from here; `source_override` replaces it, and
    `register_override` the consent register. `previous`: the latest snapshot, whose atoms the new one continues; None
    for the first. `salt`: secret of the data directory, at least 16 random bytes. `entropy`: gives the salt of the
    manifest. `now`: aware. `cluster`: where a source of kind `spark` is. `accept_shrink`: publish although fewer than
    half of the previous version's units are left. `progress`: gets a line for people at each
    step.

    Raises:
        PublicationError: the card or the data is refused; `violations` lists everything found.
        Unavailable: the cluster cannot be reached.
    """
    say = progress or (lambda line: None)
    _refuse(check_card(card))
    if previous is not None:
        refuse_changed_card(card, previous)
    target = snapshot_directory(data_dir, card.name, version)
    if target.exists():
        raise PublicationError(f"version {version} of this dataset exists already", rule="snapshot.exists")
    private = private_directory(data_dir, card.name)
    opened = card.grade is not Grade.CORE  # catalogued only: its source is not even opened
    remote_work = working_on(
        cluster, dataset=card.name, version=version, private=private, snapshots=target.parent, say=say
    )
    with (
        temporary_directory(data_dir / "publishing", card.name) as work,
        temporary_directory(target.parent, str(version)) as draft,
        remote_work if opened and card.source.kind == "spark" else nullcontext() as remote,
    ):
        report, grounds = Report(), Grounds()
        if opened:
            paths = _paths(card, work, draft, private, card_directory, (source_override, register_override))
            with _work_engine(paths, threads=threads) as local:
                place = Place(local, remote, salt, card.name)
                context = _Context(version, previous, now, accept_shrink)
                report, grounds = _build(card, place=place, paths=paths, context=context, say=say)
        say("sealing the snapshot")

        def keep_private(digest: str) -> None:
            keep_members(work, members_path(private, version=version, manifest_digest=digest, salt=salt))
            keep_evidence(work, private, version=version, digest=digest)

        digest = seal(
            draft,
            target,
            card=card,
            version=version,
            published=now,
            salt=entropy(SALT_BYTES),
            basis=grounds.basis,
            before=keep_private,
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
    now: datetime
    accept_shrink: bool


def _paths(
    card: DatasetCard,
    work: Path,
    draft: Path,
    private: Path,
    directory: Path,
    overrides: tuple[Path | None, Path | None],
) -> _Paths:
    source = source_path(card.source, card_directory=directory, override=overrides[0])
    register = None
    if card.consent is not None:
        register = source_path(card.consent.source, card_directory=directory, override=overrides[1])
    return _Paths(work, draft, private, directory, source, register)


def _prune(private: Path, previous: Snapshot | None, *, version: int, digest: str, salt: bytes) -> None:
    """Keep the members of this version and of the previous one, from which this one is built again if it is never
    activated."""
    wanted = [members_path(private, version=version, manifest_digest=digest, salt=salt)]
    if previous is not None:
        older = members_path(private, version=previous.version, manifest_digest=previous.manifest_digest, salt=salt)
        wanted.append(older)
    prune(private, keep=tuple(wanted))


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
    card: DatasetCard, *, place: Place, paths: _Paths, context: _Context, say: Callable[[str], None]
) -> tuple[Report, Grounds]:
    say("reading the source")
    rows = read_source(card, place=place, path=paths.source, work=paths.work)
    grounds = _grounds(card, place=place, paths=paths, context=context)
    told = bool(exact_measures(card))  # dp alone hides how many rows and units there are
    told_rows = told and not hides_rows(card)  # Counts of rows change with each row of a unit that dp hides.
    say(f"checking every declared fact in {rows:,} rows" if told_rows else "checking every declared fact")
    violations, noted = count_rows(card, rows=place.rows)
    more, units = build_units(card, rows=place.rows)
    _refuse([*violations, *more])
    _refuse_shrunk(card, units.units, context)
    report = Report()
    if told:
        report = Report(
            units=units.units,
            without_consent=grounds.left_out,
            clipped=dict(units.clipped),
        )
    if told_rows:
        clipped = {**_noted(noted, "clipped", of=card), **report.clipped}
        report = replace(report, rows=rows, clipped=clipped, rounded=_noted(noted, "rounded", of=card))
    if exact_measures(card):
        say(f"building atoms of {units.units:,} units")
        report = _atoms(card, report, place=place, paths=paths, context=context)
    if any(measure.mode is Mode.DP for measure in card.measures):
        say("building bounded rows")
        report = _bounded(card, report, place=place, draft=paths.draft, version=context.version)
    return report, grounds


def _grounds(card: DatasetCard, *, place: Place, paths: _Paths, context: _Context) -> Grounds:
    violations, grounds = establish(
        card,
        place=place,
        card_directory=paths.card,
        register=paths.register,
        work=paths.work,
        now=context.now,
        version=context.version,
    )
    _refuse(violations)
    return grounds


def _atoms(card: DatasetCard, report: Report, *, place: Place, paths: _Paths, context: _Context) -> Report:
    local, previous, version = place.local, context.previous, context.version
    build_cells(card, rows=place.rows, local=local)
    carried = Carried((), 0, None)
    if previous is not None:
        path = members_path(
            paths.private, version=previous.version, manifest_digest=previous.manifest_digest, salt=place.salt
        )
        load(card, place=place, path=path)
        carried = carry(card, place=place, previous=previous, version=version)
    partition = climb(card, engine=local, version=version, admits=carried.newcomers)
    renewed = renewed_members(card, place=place, version=version, first=previous is None)
    write(card, renewed, place=place, work=paths.work)
    atoms = (*carried.atoms, *partition.atoms)
    write_atoms(paths.draft / ATOMS, atoms, measures=[measure.name for measure in exact_measures(card)])
    by_level: dict[int, int] = {}
    for atom in atoms:
        by_level[atom.level] = by_level.get(atom.level, 0) + 1
    return replace(
        report,
        atoms=len(atoms),
        units_in_atoms=sum(atom.n for atom in atoms),
        units_outside=int(local.one(f"SELECT coalesce(sum(n), 0) FROM {CELLS} ANTI JOIN {TAKEN} USING (code)")),
        atoms_by_level=by_level,
        too_narrow=partition.too_narrow,
        held_back=carried.held_back + partition.held_back,
        withdrawn_held=0 if card.consent is None else withdrawn_held(place.rows),
    )


def _bounded(card: DatasetCard, report: Report, *, place: Place, draft: Path, version: int) -> Report:
    # Imported here, so that a card without dp measures needs none of it.
    from weir_server.publish.bounded import Elsewhere, rank_key, write_bounded
    from weir_server.publish.bounded_report import write_report

    elsewhere = None
    if place.remote is not None:
        key = rank_key(place.salt, dataset=card.name, version=version)
        elsewhere = Elsewhere(place.remote.engine, place.remote.lasting("bounded"), key)
    bounded = write_bounded(
        card,
        engine=place.local,
        rows_relation=RAW,
        directory=draft,
        salt=place.salt,
        report_epsilon_nano=card.report_epsilon,
        elsewhere=elsewhere,
    )
    if bounded.epsilon_nano:
        write_report(draft / REPORT, bounded.effects, epsilon_nano=bounded.epsilon_nano)
    return replace(
        report, bounded_files=bounded.files, effects=bounded.effects, effects_epsilon_nano=bounded.epsilon_nano
    )


def _refuse_shrunk(card: DatasetCard, units: int, context: _Context) -> None:
    """Refuse what is more likely an extract that broke off than a population that left: it would become the newest
    version, which everybody is answered from, and nothing takes a version back.

    Raises:
        PublicationError: no unit is left; or, where dp does not hide how many there were, fewer than half of those
            behind the previous version's atoms, and nobody said that this is meant.
    """
    if not units:
        consented = "" if card.consent is None else " with a consent in force"
        raise PublicationError(f"the source has no {card.unit_name}{consented}", rule="publication.empty")
    if context.accept_shrink or context.previous is None or not exact_measures(card):
        return
    before = sum(atom.n for atom in read_atoms(context.previous.directory / ATOMS))
    if 2 * units < before:
        raise PublicationError(
            f"{units:,} units are left of at least {before:,} in version {context.previous.version}: is the source "
            "whole? If it is, say so (`--accept-shrink`)",
            rule="publication.shrunk",
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
