from .engines import Devices
from .extraction import extract, extract_moments
from .moment_store import MomentStore
from .ray_engine import Ray
from .store import HeadStore

__all__ = ["Devices", "HeadStore", "MomentStore", "Ray", "extract", "extract_moments"]
