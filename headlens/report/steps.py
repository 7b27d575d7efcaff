"""The steps that a report or a card tells of, taken where they were not taken yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headlens.locate import Candidates
from headlens.report.encoded import shown_heads

if TYPE_CHECKING:
    from headlens.audit import Audit

_TEXTS = 10


def take_missing(audit: Audit) -> None:
    """Judge the heads, explain those that the report shows, and measure what correcting them costs elsewhere.

    Explaining needs the model, which has to read the general texts once: without it heads stay as they are.
    """
    if audit.results is None and audit.fairness_results is None:
        _ = audit.fairness() if isinstance(audit.location, Candidates) else audit.evaluate()
    heads = shown_heads(audit)
    if heads and audit.clip is not None and not audit.explanations and len(audit.data.bank):
        audit.explain(heads, count=min(_TEXTS, len(audit.data.bank)))
    if audit.collateral_results is None:
        audit.collateral()
