"""Corrections that were saved by version 0.1 (format 1), in today's form.

There a correction's values lay beside its name in one JSON object, its arrays had names of their own, and those of the
parts of a composition had the part's number in front.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_ERASER = ("left", "right", "mean")


def upgraded(record: Mapping[str, Any], arrays: dict[str, Tensor]) -> dict[str, Any]:
    """The JSON form of a correction of format 1 as `headlens.serialization.unpack` reads it.

    Args:
        record: what its JSON file holds.
        arrays: its arrays; single erasers of stacked ones are added.
    """
    return _tree({name: value for name, value in record.items() if name != "format"}, arrays, "")


def _tree(values: dict[str, Any], arrays: dict[str, Tensor], prefix: str) -> dict[str, Any]:
    name = values.pop("correction")
    own = {full.removeprefix(prefix): full for full in arrays if full.startswith(prefix)}
    own = {short: full for short, full in own.items() if "." not in short}
    parts = [_tree(dict(part), arrays, f"{prefix}{i}.") for i, part in enumerate(values.pop("parts", ()))]
    if name == "compose":
        values["corrections"] = [
            _tree(dict(part), arrays, f"{prefix}{i}.") for i, part in enumerate(values["corrections"])
        ]
    elif name == "by class":
        values |= {"parts": parts, "labels": [part.pop("class") for part in parts]}
    elif name == "by candidates":
        values |= {"parts": parts, "twos": [part.pop("candidates") for part in parts]}
    elif name == "leace" and "mean" in own:
        values["eraser"] = {part: own.pop(part) for part in _ERASER}
    elif name == "leace-heads" and values.pop("fitted"):
        stacked = [(part, own.pop(part)) for part in _ERASER if part in own]
        arrays |= {f"{full}.{i}": one for _, full in stacked for i, one in enumerate(arrays[full])}
        values["erasers"] = [{part: f"{full}.{i}" for part, full in stacked} for i in range(len(values["heads"]))]
    elif "weight" in own and "bias" in own:  # a trained probe
        values["linear"] = {"weight": own.pop("weight"), "bias": own.pop("bias")}
    return {"type": name} | values | own
