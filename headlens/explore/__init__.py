"""The interactive explorer of an audit in a notebook: `audit.explore()`."""

from headlens.explore.opening import explore
from headlens.explore.state import ExplorerState

__all__ = ["ExplorerState", "explore"]
