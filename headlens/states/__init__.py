"""What the heads of a tower did for a set of images: decomposed exactly, kept compactly, streamed.

Imported when first used: the tower itself knows `HeadStates`, and the rest of the room knows the tower.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
