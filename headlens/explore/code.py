"""The Python that reproduces what an explorer shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headlens.explore.state import ExplorerState


def reproduce(state: ExplorerState) -> str:
    """A script: the audit from its store, then the figures and the ablation that are shown.

    It opens the model by the name that the store knows.
    """
    audit = state.audit
    lines = audit.script().splitlines()
    heads = [str(head) for head in state.selection]
    score = ", ".join([json.dumps(state.score), *(f"{name}={value!r}" for name, value in state.options.items())])
    lines += ["", f"figures = [audit.plot.heatmap({score}, selected={heads})]"]
    if state.head is not None:
        if audit.explanations:
            lines.append(f"figures.append(audit.plot.textspans({str(state.head)!r}))")
        lines.append(f"figures.append(audit.plot.images({str(state.head)!r}))")
    if heads:
        lines.append(f"figures.append(audit.plot.tokens({state.image}, {heads[:6]}))")
    if state.ablated is not None:
        lines.append("table = audit.ablation.table()")
    return "\n".join(lines) + "\n"
