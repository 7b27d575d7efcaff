"""The Python that reproduces what an explorer shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from headlens.report.asked import command

if TYPE_CHECKING:
    from headlens.explore.state import ExplorerState


def reproduce(state: ExplorerState) -> str:
    """A script: the audit from its store, then the figures and the ablation that are shown.

    It opens the model by the name that the store knows. A bank of one's own is not written out; a comment says so.
    """
    audit = state.audit
    lines = command(audit).splitlines()
    if audit.location is None:
        lines = [line for line in lines if not line.startswith("audit.locate(")]
    lines = [line for line in lines if not line.startswith("audit.explain(")]
    if audit.question.bank is not None:
        lines.append("# heads were explained by a bank of texts of your own: give it as bank=… above")
    heads = [tuple(head) for head in state.selection]
    score = ", ".join([json.dumps(state.score), *(f"{name}={value!r}" for name, value in state.options.items())])
    lines += ["", f"figures = [audit.plot.heatmap({score}, selected={heads})]"]
    if state.head is not None:
        if audit.explanations:
            lines.append("audit.explain(draws=0)")
            lines.append(f"figures.append(audit.plot.textspans({tuple(state.head)}))")
        lines.append(f"figures.append(audit.plot.images({tuple(state.head)}))")
    if heads:
        lines.append(f"figures.append(audit.plot.tokens({state.image}, {heads[:6]}))")
    if state.ablated is not None:
        lines.append(f"ablated = hl.audit.ablate(audit, {heads}, draws={state.draws}, bootstrap={state.bootstrap})")
        lines.append("table = ablated.table()")
    return "\n".join(lines) + "\n"
