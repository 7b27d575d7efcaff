"""headlens: which attention heads of a CLIP vision tower carry a bias, what they encode, and what correcting them does.

Everything here is imported when it is first used, so that `import headlens` and `headlens --help` stay quick.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
