"""The audit that users hold: a thin object over `headlens.steps`."""

from headlens.audit.audit import Audit
from headlens.audit.figures import Figures

__all__ = ["Audit", "Figures"]
