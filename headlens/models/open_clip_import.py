"""Import open_clip, also where torchvision's compiled operators do not fit the installed torch.

open_clip needs torchvision's image transforms alone. A torchvision wheel built for CUDA next to a CPU build of torch
(a frequent pair) cannot load its operators, and then fails to import as a whole because it attaches shape rules to two
operators that are not there. Declaring these two names lets the import through; the operators themselves stay absent,
and calling one is still an error. Where the operators load, nothing is declared.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import torch

_NEEDED_NAMES = ("nms", "qnms")
_declarations: list[torch.library.Library] = []  # a Library forgets what it declared when it is collected


def _operators_load() -> bool:
    spec = importlib.util.find_spec("torchvision")
    folders = [] if spec is None or spec.submodule_search_locations is None else spec.submodule_search_locations
    libraries = [path for folder in folders for path in sorted(Path(folder).glob("_C*")) if path.is_file()]
    try:
        for library in libraries:
            torch.ops.load_library(str(library))
    except OSError:
        return False
    return bool(libraries)


@cache
def open_clip() -> ModuleType:
    """The open_clip module, unmodified."""
    if not _operators_load():
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in _NEEDED_NAMES:
            if not hasattr(torch.ops.torchvision, name):
                library.define(f"{name}(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
        _declarations.append(library)
    import open_clip as module

    return module
