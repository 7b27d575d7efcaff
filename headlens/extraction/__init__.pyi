from .extraction import extract
from .moment_store import MomentStore
from .store import HeadStore

__all__ = ["HeadStore", "MomentStore", "extract"]
