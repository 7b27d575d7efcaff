"""The explorer's tables and sentences, as HTML. Everything that a person or a manifest wrote is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import pandas as pd

from headlens.errors import HeadlensError
from headlens.metrics import Evaluation
from headlens.steps import HeadAblation

if TYPE_CHECKING:
    from headlens.explore.state import ExplorerState

_STYLE = """<style>
.headlens table {border-collapse: collapse; margin: 4px 0; font-variant-numeric: tabular-nums}
.headlens td, .headlens th {padding: 3px 10px; text-align: right; border-bottom: 1px solid rgba(128,128,128,.3)}
.headlens caption {text-align: left; font-weight: 600; padding: 6px 10px 2px}
.headlens td:first-child, .headlens th:first-child {text-align: left}
.headlens p {margin: 4px 0; max-width: 70em; line-height: 1.45}
.headlens .error {border-left: 4px solid #b3127f; padding: 6px 12px}
.headlens .soft {opacity: .75}
</style>"""


def question(state: ExplorerState) -> str:
    """What is asked, of what, and where heads were located."""
    audit = state.audit
    inferred = ", inferred zero-shot: no column of that name" if audit.data.inferred else ""
    asked = (
        f"{audit.store.model_name}, {len(audit.store):,} images: {', '.join(audit.task.classes)} "
        f"by {audit.attribute.name} ({', '.join(audit.attribute.value_names)}{inferred}). {audit.data.splits.note}"
    )
    heads = ", ".join(map(str, state.located)) or "none"
    located = state.note or f"Located by {state.locator!r}: {heads}. {audit.location_note}"
    return _page(f"<p class='headlens-question'>{escape(asked)}</p><p class='headlens-located'>{escape(located)}</p>")


def error(problem: HeadlensError) -> str:
    """An error: what is wrong, and how to fix it."""
    return _page(
        f"<div class='error' role='alert'><p>{escape(problem.problem)}</p><p><b>{escape(problem.remedy)}</b></p></div>"
    )


def trouble(said: str) -> str:
    """Any other thing that went wrong."""
    return _page(f"<div class='error' role='alert'><p>{escape(said)}</p></div>")


def groups(evaluation: Evaluation) -> str:
    """Accuracy of every group with nothing ablated."""
    names = {"average": "average", "worst_group": "worst group", "gap": "gap"}
    rows = [
        {
            "zero-shot": names.get(row["measure"], row["measure"]),
            "images": f"{row['images']:,}",
            "accuracy, %": _percent(row["accuracy"]),
            "95 % interval": f"{_percent(row['low'])} to {_percent(row['high'])}",
        }
        for row in evaluation.table().to_dict("records")
    ]
    return _page(_table(pd.DataFrame(rows), "headlens-groups", "Accuracy by group, no head ablated"))


def ablated(found: HeadAblation) -> str:
    """Before and after, with the paired intervals of the difference, beside random heads."""
    rows = []
    for row in found.table().to_dict("records"):
        v = row["measure"] == "Cramér's V"
        write = _number if v else _percent
        rows.append(
            {
                "measure": row["measure"] if v else f"{row['measure']}, %",
                "before": write(row["before"]),
                "after": write(row["after"]),
                "difference": write(row["difference"], sign=True),
                "95 % interval": f"{write(row['low'], sign=True)} to {write(row['high'], sign=True)}",
                "random heads": "" if pd.isna(row["random"]) else write(row["random"]),
                "p": "" if pd.isna(row["p"]) else f"{row['p']:.3f}",
            }
        )
    control = found.control
    heads = ", ".join(map(str, found.heads))
    if control is None:
        compared = "No random heads were drawn."
    else:
        compared = (
            f"{control.note} The column has their mean; p: how often such a set does as well, the selection counted in."
        )
    table = _table(pd.DataFrame(rows), "headlens-ablated", f"Before and after ablating {heads}")
    return _page(
        f"{table}<p class='soft'>Ablated heads are replaced by their means over the reference split; the scored split "
        f"is counted. {escape(compared)}</p>"
    )


def soft(text: str) -> str:
    """A quiet sentence."""
    return _page(f"<p class='soft'>{escape(text)}</p>")


def status(text: str) -> str:
    """What is being done, or was; a screen reader reads it out."""
    return _page(f"<p class='soft headlens-status' role='status'>{escape(text)}</p>")


def _page(body: str) -> str:
    return f"{_STYLE}<div class='headlens'>{body}</div>"


def _table(frame: pd.DataFrame, name: str, caption: str) -> str:
    start, end, rest = frame.to_html(index=False, escape=True, border=0, classes=name).partition(">")
    return f"{start}{end}<caption>{escape(caption)}</caption>{rest}"


def _percent(value: float, sign: bool = False) -> str:
    return f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"


def _number(value: float, sign: bool = False) -> str:
    return f"{value:+.3f}" if sign else f"{value:.3f}"
