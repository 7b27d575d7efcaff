"""Results in the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd

    from headlens.audit import Audit
    from headlens.explain import Explanation, Pole
    from headlens.heads import HeadId


def facts(pairs: Mapping[str, Any], *, as_json: bool) -> None:
    """Names and values, one a line, or as JSON."""
    console = Console()
    if as_json:
        console.print_json(json.dumps(pairs))
        return
    table = Table(show_header=False, box=None)
    for name, value in pairs.items():
        table.add_row(Text(name, style="bold"), Text(str(value)))
    console.print(table)


def audit(audit: Audit, report: Path, planted: Sequence[tuple[int, int]] | None) -> None:
    """The located heads, the table of methods with intervals, the verdict, and where the report lies."""
    results, location = audit.results, audit.location
    assert results is not None
    assert location is not None
    console = Console()
    scored = sum(next(iter(results.evaluations.values())).sizes.values())
    console.print()
    console.print(Text(f"{audit.store.model_name}: {', '.join(audit.task.classes)} by {audit.attribute.name}", "bold"))
    if audit.data.inferred:
        console.print(Text(f"The manifest has no column {audit.attribute.name!r}: its values are inferred zero-shot."))
    for finding in audit.findings:
        console.print(Text(finding.sentence, style="yellow"))
    console.print(Text(f"spurious heads  {_heads(location.spurious)}"))
    console.print(Text(f"salient heads   {_heads(location.salient)}"))
    if planted is not None:
        known = _heads(planted) if planted else "none: the bias was not planted"
        console.print(Text(f"planted heads   {known}"))
    table = Table(
        title=f"Accuracy on {scored} images, % [95 % interval]", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("method", no_wrap=True)
    for name in ("average", "worst group", "gap"):
        table.add_column(name, justify="right", no_wrap=True)
    for record in results.records():
        table.add_row(Text(record["method"]), *(_cell(record, n) for n in ("average", "worst_group", "gap")))
    console.print(table)
    if results.controls:
        console.print(Text("Intervals of random heads are the central 95 % of the draws.", style="dim"))
    if (verdict := results.verdict) is not None:
        console.print(Text(verdict.sentence, style="bold green" if verdict.supported else "bold yellow"))
    console.print(Text(f"report: {report}"))


def _heads(heads: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"L{layer}H{head}" for layer, head in heads) or "none"


def _cell(record: Mapping[str, Any], name: str) -> Text:
    low, high = record["interval"][name]
    return Text(f"{100 * record[name]:.1f} [{100 * low:.1f}–{100 * high:.1f}]")


def explanations(explained: Mapping[HeadId, Explanation], texts: bool) -> None:
    """What heads encode: an overview, or each head's texts."""
    console = Console()
    if not texts:
        console.print(_overview(explained))
        return
    for one in explained.values():
        console.print(_poles(one))
        console.print(_texts(one))


def frame(table: pd.DataFrame, notes: Sequence[str] = ()) -> None:
    """A result's table as it stands, and sentences under it."""
    shown = Table(box=None, pad_edge=False)
    for column in table.columns:
        shown.add_column(Text(str(column)))
    for row in table.itertuples(index=False):
        shown.add_row(*(Text(f"{value:.3f}" if isinstance(value, float) else str(value)) for value in row))
    console = Console()
    console.print(shown)
    for note in notes:
        console.print(Text(note, style="dim"))


def _overview(explained: Mapping[HeadId, Explanation]) -> Table:
    table = Table(title="What heads encode", title_justify="left", box=None, pad_edge=False)
    for name in ("head", "label", "variance, %", "predicts the head"):
        table.add_column(name, justify="right" if name.startswith("variance") else "left")
    for head, one in explained.items():
        share = "–" if one.pole is None else f"{100 * one.pole.share:.0f}"
        table.add_row(str(head), Text(one.label), share, _predicts(one.pole))
    return table


def _predicts(pole: Pole | None) -> str:
    if pole is None or pole.faithfulness is None:
        return "–"
    return "{:+.2f} ({:+.2f} to {:+.2f})".format(pole.faithfulness.rank_correlation, *pole.faithfulness.interval)


def _poles(one: Explanation) -> Table:
    table = Table(title=Text(f"Head {one.head}: {one.label}"), title_justify="left", box=None, pad_edge=False)
    for name in ("one end", "other end", "variance, %", "predicts the head", "q"):
        table.add_column(name)
    for pole in one.poles:
        ends = (Text("; ".join(end)) for end in (pole.high, pole.low))
        table.add_row(*ends, f"{100 * pole.share:.0f}", _predicts(pole), f"{pole.q:.3f}")
    return table


def _texts(one: Explanation) -> Table:
    table = Table(title="Its texts (TextSpan)", title_justify="left", box=None, pad_edge=False)
    for name in ("text", "category", "variance, %", "heads with it", "chosen again, %"):
        table.add_column(name, justify="left" if name in ("text", "category") else "right")
    again = one.again or [float("nan")] * len(one.texts)
    for text, category, share, heads, often in zip(
        one.texts, one.categories, one.share, one.shared, again, strict=True
    ):
        times = f"{100 * often:.0f}" if often == often else "–"
        table.add_row(Text(text), Text(category), f"{100 * share:.1f}", str(heads), times)
    return table
