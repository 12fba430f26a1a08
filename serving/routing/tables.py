"""Changes and plans as a person reads them in a terminal. Knows how to say figures, not how they came about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from serving.routing.capacity import Figure, Measured, Plan, Span, Swing
from serving.routing.changes import Changes, Move, Shift

NONE = "·"
DIGEST = 15  # characters of a digest that tell it from others


def changes_page(changes: Changes) -> Iterator[RenderableType]:
    """What another policy would change, part by part."""
    total = changes.answers
    old, new = (f"[dim]{digest[:DIGEST]}[/]" for digest in changes.policies)
    yield f"{total:,} answers of {changes.conversations:,} conversations, policy {old} against {new}"
    before, after = (_percent(count, total) for count in changes.sent_up)
    yield f"[bold]{changes.moved:,}[/] answers ({_percent(changes.moved, total)}) go to another queue"
    yield f"sent up ({', '.join(map(escape, changes.upper_queues))}): {before} before, [bold]{after}[/] after"
    yield from _asides(changes)
    yield Padding(_moves_table(changes), (1, 0), expand=False)
    if changes.scores:
        yield _shift_line(changes.scores)
    if changes.gained or changes.lost:
        yield Padding(_reasons_table(changes), (1, 0, 0, 0), expand=False)
    if changes.biggest:
        yield Padding(_examples_table(changes.biggest), (1, 0, 0, 0), expand=False)


def _asides(changes: Changes) -> Iterator[str]:
    if changes.abstained:
        yield f"{changes.abstained:,} answers abstained, and stay so"
    if changes.otherwise_then:
        yield (
            f"{changes.otherwise_then:,} had been decided otherwise when they were given: by another policy, or after "
            "a wait, which is left out here"
        )


def _moves_table(changes: Changes) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, title="from \\ to", title_justify="left")
    table.add_column("")
    for name in changes.queues:
        table.add_column(Text(name), justify="right")
    for name, to in changes.moves.items():
        cells = [_count(to.get(other, 0), "dim" if other == name else "yellow") for other in changes.queues]
        table.add_row(Text(name, style="bold"), *cells)
    return table


def _shift_line(scores: Shift) -> str:
    return (
        f"scores: {scores.up:,} rise, {scores.down:,} fall, {scores.same:,} stay; on average {scores.mean:+g}, "
        f"90 % between {scores.p5:+g} and {scores.p95:+g}"
    )


def _reasons_table(changes: Changes) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("reason")
    for name in ("gained", "lost"):
        table.add_column(name, justify="right")
    for reason in dict.fromkeys([*changes.gained, *changes.lost]):
        table.add_row(Text(reason), *(_count(part.get(reason, 0), "") for part in (changes.gained, changes.lost)))
    return table


def _examples_table(moves: Iterable[Move]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("biggest moves", overflow="fold", max_width=40)
    table.add_column("turn", justify="right")
    table.add_column("queue")
    table.add_column("score", justify="right")
    for move in moves:
        queue = move.queue[0] if move.queue[0] == move.queue[1] else " → ".join(move.queue)
        table.add_row(Text(move.id), str(move.turn), Text(queue), f"{move.score[0]} → {move.score[1]}")
    return table


def plan_page(plan: Plan) -> Iterator[RenderableType]:
    """A threshold and what it comes to, part by part."""
    yield f"{plan.conversations:,} conversations, {_days(plan.span)}"
    if plan.abstained:
        yield f"{plan.abstained:,} the model would not judge: nobody knows their heat, they are not in what is expected"
    yield Padding(_verdict(plan), (1, 0), expand=False)
    yield f"expected to miss {_per_day(plan.expected.missed, plan.span.days)} hot conversations a day"
    if plan.expected.reached:
        yield f"expected to reach {_share(plan.expected.reached)} of the hot ones"
    if plan.ties > 1 and plan.threshold > 0:
        yield f"{plan.ties:,} conversations tie at exactly {plan.threshold}: they come or stay away together"
    if plan.swing:
        yield _swing_line(plan.swing, plan.capacity)
    if plan.measured:
        yield from _measured_lines(plan.measured)
    if not plan.overfull:
        yield Padding(_steps_table(plan), (1, 0), expand=False)
        yield from _yaml_lines(plan)


def _days(span: Span) -> str:
    if span.first is None or span.last is None:
        return f"said to span {span.days:g} days"
    empty = f", {span.empty:,} of them empty" if span.empty else ""
    return f"{span.days:g} days ({span.first} to {span.last}{empty})"


def _verdict(plan: Plan) -> str:
    load, name = f"{plan.taken / plan.span.days:,.1f} a day", escape(plan.queue)
    if plan.overfull:
        return (
            f"[bold red]No threshold keeps {name} to {plan.capacity:g} a day:[/] at {plan.threshold} it and the hotter "
            f"queues still take {load}, {plan.forced / plan.span.days:,.1f} of them at any threshold"
        )
    if plan.threshold == 0:
        return f"[bold]A capacity of {plan.capacity:g} a day takes every conversation:[/] there are {load}"
    return (
        f"[bold]{name} from score {plan.threshold}[/] takes {load} with the hotter queues, of {plan.capacity:g} it can"
    )


def _swing_line(swing: Swing, capacity: float) -> str:
    over = f"; on {swing.days_over:,} days more than {capacity:g}" if swing.days_over else ""
    return f"by day: half take up to {swing.p50:g}, 95 % up to {swing.p95:g}, the fullest {swing.most:,}{over}"


def _measured_lines(measured: Measured) -> Iterator[str]:
    yield f"measured on {measured.labelled:,} labelled conversations, {measured.hot:,} of them hot:"
    if measured.recall:
        yield f"  reached {measured.taken_hot:,} of {measured.hot:,} hot ones: {_share(measured.recall)}"
    if measured.precision:
        yield f"  hot among the {measured.taken:,} taken: {_share(measured.precision)}"


def _steps_table(plan: Plan) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("from score", "a day", "hot missed a day", "hot reached"):
        table.add_column(name, justify="right")
    for step in plan.around:
        reached = NONE if step.reached is None else f"{100 * step.reached:.1f} %"
        style = "bold" if step.threshold == plan.threshold else ""
        cells = (str(step.threshold), f"{step.per_day:,.1f}", f"{step.missed_per_day:,.2f}", reached)
        table.add_row(*cells, style=style)
    return table


def _yaml_lines(plan: Plan) -> Iterator[RenderableType]:
    yield "in the policy's queues:"
    yield Text(f"  {plan.line}")
    if "reasons: []" in plan.line and plan.by_reason:
        yield (
            f"[dim]by its present reasons alone the queue takes {plan.by_reason / plan.span.days:,.1f} a day; without "
            "them the score decides (--keep-reasons keeps them)[/]"
        )


def _per_day(figure: Figure, days: float) -> str:
    low, high = figure.low / days, figure.high / days
    return f"[bold]{figure.value / days:,.2f}[/] ({low:,.2f} to {high:,.2f})"


def _share(figure: Figure) -> str:
    return f"[bold]{100 * figure.value:.1f} %[/] ({100 * figure.low:.1f} to {100 * figure.high:.1f})"


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} %"


def _count(count: int, style: str) -> Text:
    return Text(f"{count:,}", style=style) if count else Text(NONE, style="dim")
