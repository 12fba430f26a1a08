"""`simmer promote` and `simmer rollback`: who serves. The gate decides, one alias moves, `models/current` follows.

    simmer promote [--dry-run] [--json] [--shadow HISTORY|URL]     @challenger against @champion
    simmer rollback                                                  back to what @champion took the place of

What is compared, and what counts as worse, is in `training.gate`; how aliases move, in `training.registry`. A running
scorer takes the bundle up by itself: nothing here knows of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datasets import Dataset, load_from_disk
from rich.console import Console
from rich.table import Table

from pipeline.bundle import Bundle, load_bundle
from pipeline.config import ROOT, load_config
from pipeline.conversation import Conversation, read_conversations
from pipeline.differences import Differences
from pipeline.errors import InputError
from pipeline.ingest import CONVERSATIONS
from pipeline.prepare import DATASET
from pipeline.stage import data_hash
from pipeline.vocabulary import load_vocabulary
from training.behaviour import BehaviourConfig, measure, read_texts
from training.gate import Figure, PromoteConfig, common_vocabulary, compare, notes
from training.registry import (
    CHALLENGER,
    CHAMPION,
    Move,
    Registry,
    RegistryError,
    Version,
    answering,
    open_registry,
    who,
)
from training.shadow import check_shadow, shadowed
from training.suite import Case, load_suite

THREADS = 2
SHOWN = 8  # slices of a table, worst first


@dataclass(frozen=True)
class Asked:
    """The command's options."""

    challenger: Path | None = None
    champion: Path | None = None
    first: bool = False
    allow_vocabulary: bool = False
    shadow: str | None = None
    dry_run: bool = False
    as_json: bool = False
    by: str | None = None
    why: str = ""

    @property
    def moves(self) -> bool:
        """Whether an alias may move: only what the registry holds is promoted, and only against what it holds."""
        return not (self.dry_run or self.challenger or self.champion)


@dataclass(frozen=True)
class Verdict:
    """What the gate says: figures compared, families out of their bounds, what else to know, where answers differ."""

    figures: Sequence[Figure] = ()
    broken: Sequence[str] = ()
    notes: Sequence[str] = ()
    shadow: Differences | None = None

    @property
    def worse(self) -> list[Figure]:
        """What got worse beyond its tolerance."""
        return [figure for figure in self.figures if figure.worse]

    @property
    def refused(self) -> bool:
        """Whether the challenger must not serve."""
        return bool(self.worse or self.broken)

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON tells it."""
        return {
            **self.summary(),
            "figures": [figure.model_dump() for figure in self.figures],
            "shadow": self.shadow.model_dump() if self.shadow else None,
        }

    def summary(self) -> dict[str, Any]:
        """What the log keeps of it."""
        judged = sum(figure.judged != "no" for figure in self.figures)
        why = [*map(str, self.worse), *self.broken]
        return {"refused": self.refused, "judged": judged, "worse": why, "notes": list(self.notes)}


@dataclass(frozen=True)
class Contest:
    """Who is compared: two folders, and their versions where they come from the registry."""

    challenger: Path
    champion: Path | None
    version: Version | None
    reigning: Version | None


def promote(asked: Asked) -> int:
    """Compare, say what came out, and move the alias where nothing speaks against it; the exit status."""
    if asked.shadow:
        check_shadow(asked.shadow)
    with answering(), told_apart(asked.as_json) as out:
        registry = open_registry()
        contest = entrants(asked, registry)
        same = contest.version and contest.reigning and contest.version.number == contest.reigning.number
        verdict = Verdict() if same else judged(contest, asked)
        moved = asked.moves and not verdict.refused and contest.version is not None
        if moved and contest.version:
            crown(registry, contest, asked, verdict)
    show(out, contest, verdict, asked, bool(moved), bool(same))
    return int(verdict.refused)


def crown(registry: Registry, contest: Contest, asked: Asked, verdict: Verdict) -> None:
    """Let the challenger serve; where it does already, only `models/current` is put right."""
    action = "first" if contest.champion is None else "promote"
    move = Move(action, asked.by or who(), asked.why, datetime.now(UTC), verdict.summary())
    assert contest.version is not None
    registry.crown(contest.version, contest.reigning, move)


def entrants(asked: Asked, registry: Registry) -> Contest:
    """Who is compared with whom. Raises RegistryError saying which alias is missing, and what to do."""
    version = None if asked.challenger else registry.at(CHALLENGER)
    if version is None and not asked.challenger:
        raise RegistryError(
            f"no @{CHALLENGER} in the registry: train one, then python -m training.register --alias {CHALLENGER}"
        )
    reigning = None if asked.champion else registry.at(CHAMPION)
    if asked.first and (reigning or asked.champion):
        raise RegistryError(f"--first: there is a champion, {reigning or asked.champion}; leave --first out")
    if reigning is None and not (asked.champion or asked.first):
        raise RegistryError(
            f"no @{CHAMPION} in the registry, so there is nothing to compare with: "
            "--first lets the challenger serve by the bounds of the behaviour suite alone"
        )
    challenger = asked.challenger or registry.bundle(version) if version else asked.challenger
    champion = registry.bundle(reigning) if reigning else asked.champion
    assert challenger is not None
    return Contest(challenger, champion, version, reigning)


def judged(contest: Contest, asked: Asked) -> Verdict:
    """What the gate says of the challenger."""
    after = load_bundle(contest.challenger, THREADS)
    behaviour = load_config(BehaviourConfig, "train.yaml", "behaviour", after.card.profile)
    cases = load_suite(ROOT / behaviour.suite, after.card.labels)
    broken = out_of_bounds(after, cases, behaviour)
    if contest.champion is None:
        return Verdict(broken=broken, notes=["there was no champion to compare with"])
    before = load_bundle(contest.champion, THREADS)
    config = load_config(PromoteConfig, "train.yaml", "promote", after.card.profile)
    full = load_vocabulary()
    kept = common_vocabulary(before.card, after.card, full, asked.allow_vocabulary)
    rows, talks = test_rows()
    return Verdict(
        figures=compare(before, after, rows, talks, (full, kept), cases, config),
        broken=broken,
        notes=notes(before.card, after.card, data_hash(CONVERSATIONS)),
        shadow=shadowed(asked.shadow, contest.champion, contest.challenger) if asked.shadow else None,
    )


def out_of_bounds(bundle: Bundle, cases: Sequence[Case], config: BehaviourConfig) -> list[str]:
    """Families of the behaviour suite that fail more often than their bound allows, whoever serves now."""
    found = read_texts(bundle.predictor, (text for case in cases for text in case.expectation.texts()))
    return config.gate.broken(measure(cases, found, examples=0)["families"])


def test_rows() -> tuple[Dataset, dict[str, Conversation]]:
    """The dataset's test split, and the conversations that it comes from. Raises InputError where there is none."""
    if not (DATASET.is_dir() and CONVERSATIONS.is_file()):
        raise InputError("no dataset in build/: run dvc repro, which makes the frozen test sets")
    return load_from_disk(str(DATASET))["test"], {c.id: c for c in read_conversations(CONVERSATIONS)}


def rollback(by: str | None = None, why: str = "") -> int:
    """Move @champion back to the version that it took the place of; the exit status. Raises RegistryError."""
    with answering():
        registry = open_registry()
        champion = registry.at(CHAMPION)
        if champion is None:
            raise RegistryError(f"no @{CHAMPION} in the registry: there is nothing to go back from")
        if champion.previous is None:
            raise RegistryError(f"{champion} took no other version's place: there is nothing to go back to")
        before = registry.numbered(champion.previous)
        registry.crown(before, champion, Move("rollback", by or who(), why, datetime.now(UTC)))
    Console().print(f"{before} is @{CHAMPION} again, in place of {champion}", highlight=False)
    return 0


@contextmanager
def told_apart(as_json: bool) -> Iterator[Console]:
    """Where the result goes; of JSON nothing else, such as a progress bar, may get there."""
    out = Console(file=sys.stdout)
    if not as_json:
        yield out
        return
    with redirect_stdout(sys.stderr):
        yield out


def show(out: Console, contest: Contest, verdict: Verdict, asked: Asked, moved: bool, same: bool) -> None:
    """Say what was compared and what came of it."""
    names = {
        "challenger": _name(contest.version, contest.challenger),
        "champion": _name(contest.reigning, contest.champion),
    }
    if asked.as_json:
        told = {**names, "promoted": moved and not same, **verdict.as_dict()}
        out.file.write(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
        return
    if same:
        out.print(f"{names['challenger']} is @{CHAMPION} already", highlight=False)
        return
    for table in tables(verdict):
        out.print(table)
    for line in lines(verdict, names, asked, moved):
        out.print(line, highlight=False, soft_wrap=True, markup=False)


def tables(verdict: Verdict) -> Iterator[Table]:
    """The test sets with every figure, then the slices that fell most."""
    sets = [figure for figure in verdict.figures if figure.of_set]
    fallen = sorted(
        (f for f in verdict.figures if not f.of_set and f.judged != "no"), key=lambda f: (not f.worse, f.gain)
    )
    if sets:
        yield table("Test sets", sets)
    if fallen:
        yield table(
            f"Slices and families, the {min(SHOWN, len(fallen))} that fell most of {len(fallen)}", fallen[:SHOWN]
        )
    if verdict.shadow:
        yield shadow_table(verdict.shadow)


def table(title: str, figures: Sequence[Figure]) -> Table:
    """Figures as they are shown, in 80 columns."""
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    shown.add_column("figure", overflow="fold")
    for name in ("rows", "champion", "challenger", "difference (95 %)"):
        shown.add_column(name, justify="right", no_wrap=True)
    where = None
    for one in figures:
        if one.where != where:
            shown.add_row(f"[bold]{one.where}[/]")
            where = one.where
        style = "bold red" if one.worse else "dim" if one.judged == "no" else None
        shown.add_row(
            f"  {one.head} {SHORT.get(one.measure, one.measure)}",
            f"{one.rows:,}",
            f"{one.champion:.3f}",
            f"{one.challenger:.3f}",
            f"{one.difference:+.3f} ({one.low:+.3f} to {one.high:+.3f})",
            style=style,
        )
    return shown


SHORT = {
    "quadratic_kappa": "kappa",
    "average_precision": "AP",
    "macro_f1": "F1",
    "micro_f1": "F1",
    "failure_rate": "failing",
}


def shadow_table(found: Differences) -> Table:
    """Where the two answer past traffic differently, by id."""
    title = f"Traffic: {found.moved:.1%} of {found.answers:,} turns change their queue; " + ", ".join(
        f"{head} {share:.1%}" for head, share in found.levels.items()
    )
    shown = Table("conversation", "turn", "queue", "priority", "changed", title=title, title_justify="left", box=None)
    for one in found.examples:
        queue = one.queue[0] if one.queue[0] == one.queue[1] else " to ".join(one.queue)
        changed = ", ".join(f"{head} {a} to {b}" for head, (a, b) in one.changed.items())
        shown.add_row(one.id, str(one.turn), queue, f"{one.score[0]} to {one.score[1]}", changed)
    return shown


def lines(verdict: Verdict, names: Mapping[str, str], asked: Asked, moved: bool) -> Iterator[str]:
    """What came of it, in words."""
    yield from (f"note: {note}" for note in verdict.notes)
    yield from (f"worse: {figure}" for figure in verdict.worse)
    yield from (f"out of bounds: behaviour {family}" for family in verdict.broken)
    judged = sum(figure.judged != "no" for figure in verdict.figures)
    compared = f"{judged} figures judged, {len(verdict.worse)} worse beyond tolerance"
    if verdict.refused:
        yield f"refused: {names['challenger']} must not take the place of {names['champion']} ({compared})"
    elif moved:
        yield f"{names['challenger']} is @{CHAMPION}, in place of {names['champion']} ({compared})"
    else:
        why = "--dry-run" if asked.dry_run else "folders are compared, what the registry holds is promoted"
        yield f"{names['challenger']} could take the place of {names['champion']} ({compared}); nothing moved: {why}"


def _name(version: Version | None, folder: Path | None) -> str:
    return str(version or folder or "nothing")
