"""The hooked tower, its conversions, and how models are read, described, saved and checked."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
