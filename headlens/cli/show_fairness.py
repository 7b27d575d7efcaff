"""A fairness audit in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headlens.metrics import SMALL

if TYPE_CHECKING:
    from headlens.audit import Audit
    from headlens.steps import FairnessResults

_MEASURES = {
    "cramers_v": "Cramér's V",
    "corrected": "V, bias-corrected",
    "accuracy": "accuracy",
    "dependence": "D, within classes",
}
_COLOURS = {"focal": "bold red", "diffuse": "bold yellow", "not shown": "bold", "inconclusive": "bold yellow"}
_MOST_CLASSES = 12


def fairness(
    audit: Audit, report: Path, notes: Sequence[str] = (), planted: Sequence[tuple[int, int]] | None = None
) -> None:
    """Candidates and what they encode, the measures with intervals, the controls, the classes, the verdict."""
    results = audit.fairness_results
    assert results is not None
    console = Console()
    console.print()
    inferred = " (inferred zero-shot)" if results.inferred else ""
    title = f"{audit.store.model_name}: {results.attribute}{inferred} in {len(results.classes)} classes"
    console.print(Text(title, "bold"))
    for note in (*notes, audit.splits.note, *(finding.sentence for finding in audit.findings)):
        console.print(Text(note, style="dim"))
    console.print(Text(f"candidates by {results.locator}: {', '.join(map(str, results.candidates)) or 'none'}"))
    if planted is not None:
        console.print(Text(f"planted heads: {', '.join(f'L{layer}H{head}' for layer, head in planted)}"))
    _heads(console, audit, results)
    _measures(console, audit, results)
    _classes(console, results)
    console.print(Text(results.verdict.sentence, style=_COLOURS[results.verdict.word]))
    console.print(Text(results.verdict.cost))
    console.print(Text(f"report: {report}"))


def negative_control(results: FairnessResults) -> None:
    """The verdict on an attribute that has nothing to do with the classes, in a line."""
    Console().print(Text(f"Negative control: {results.verdict.sentence}"))


def _heads(console: Console, audit: Audit, results: FairnessResults) -> None:
    if not results.shares:
        return
    table = Table(title="Each candidate alone", title_justify="left", box=None, pad_edge=False)
    for name in ("head", "change of V", "share", "accuracy", "encodes"):
        table.add_column(name, justify="left" if name in ("head", "encodes") else "right")
    for one in results.shares:
        explained = audit.explanations.get(one.head)
        table.add_row(
            str(one.head),
            f"{one.change:+.3f}",
            "–" if one.share is None else f"{100 * one.share:.0f} %",
            f"{100 * one.accuracy:.1f} %",
            Text("" if explained is None else explained.label),
        )
    console.print(table)


def _measures(console: Console, audit: Audit, results: FairnessResults) -> None:
    table = Table(
        title=f"On {len(audit.splits.test)} images [95 % interval]", title_justify="left", box=None, pad_edge=False
    )
    for name in ("measure", "before", "after", "difference"):
        table.add_column(name, justify="left" if name == "measure" else "right", no_wrap=True)
    for row in results.table().itertuples():
        low, high = row.low, row.high
        table.add_row(
            _MEASURES[str(row.measure)],
            f"{row.before:.3f}",
            f"{row.after:.3f}",
            f"{row.difference:+.3f} [{low:+.3f} to {high:+.3f}]",
        )
    console.print(table)
    if results.control is not None:
        control = results.control
        compared = control.comparison("cramers_v")
        console.print(
            Text(
                f"{control.note} V is {compared.mean:.3f} on average, "
                f"{compared.best:.3f} at the lowest; {100 * (1 - compared.share_at_least):.0f} % of them lower V "
                f"by less (z = {compared.z:.1f}, p = {compared.p:.3f})."
            )
        )
    if results.total is not None:
        direct, total = (change.difference["cramers_v"] for change in (results.total.direct, results.total.total))
        console.print(
            Text(
                f"Inside the forward pass ({results.total.images} images, {results.total.tokens} token): V changes by "
                f"{total:+.3f}, where the direct edit changes it by {direct:+.3f}."
            )
        )


def _classes(console: Console, results: FairnessResults) -> None:
    table = Table(title="Class by class, before → after", title_justify="left", box=None, pad_edge=False)
    for name in ("class", "images", "accuracy, %", "gap between values, %", "V, this class or not"):
        table.add_column(name, justify="left" if name == "class" else "right")
    ranked = sorted(results.by_class, key=lambda c: -abs(c.v_after - c.v_before))
    for one in ranked[:_MOST_CLASSES]:
        table.add_row(
            Text(one.name),
            f"{one.images}{' *' if one.images < SMALL else ''}",
            f"{100 * one.accuracy_before:.1f} → {100 * one.accuracy_after:.1f}",
            f"{100 * one.gap_before:.1f} → {100 * one.gap_after:.1f}",
            f"{one.v_before:.3f} → {one.v_after:.3f}",
        )
    console.print(table)
    if len(ranked) > _MOST_CLASSES:
        console.print(Text(f"{len(ranked) - _MOST_CLASSES} more classes are in the report.", style="dim"))
    if any(one.images < SMALL for one in ranked):
        console.print(Text(f"* fewer than {SMALL} images: says little.", style="dim"))
    fate = ", ".join(f"{count} {name}" for name, count in results.fate.items())
    console.print(Text(f"Changed predictions: {int(results.transitions.sum())} ({fate})."))
