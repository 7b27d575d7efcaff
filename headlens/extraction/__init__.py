"""From image files to a store on disk: the one time that the pixels are looked at, on any devices and machines."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
