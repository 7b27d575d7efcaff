"""The audit's steps: from a question and a store to frozen results, and the record of the calls that made them.

Imported when first used: the shell reads `headlens.steps.options` without anything heavy.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
