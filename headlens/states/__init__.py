"""What the heads of a tower contribute to an embedding: decomposed exactly, kept compactly. No file, no cluster.

Imported when first used: the tower itself knows `HeadStates`, and the rest of the package knows the tower.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
