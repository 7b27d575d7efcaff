"""The audit that users hold: the steps to call, over what `headlens.steps` holds and finds."""

from headlens.audit.audit import Audit
from headlens.document.figures import Figures

__all__ = ["Audit", "Figures"]
