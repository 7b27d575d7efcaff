"""The part of a model that extraction needs, on the device where it works."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch

from headlens.extraction.plan import Model


@dataclass
class Tower:
    """The vision tower and the preprocessing of a model; a `Model` as far as extraction goes."""

    vision: Any
    preprocess: Any
    name: str
    fingerprint: str
    device: torch.device

    @classmethod
    def of(cls, clip: Model, device: torch.device) -> Tower:
        """On a device: the model's own tower where that is there already, else a copy."""
        there = clip.device == device
        vision = clip.vision if there else copy.deepcopy(clip.vision).to(device)
        return cls(vision, clip.preprocess, clip.name, clip.fingerprint, device)

    def to(self, device: torch.device) -> Tower:
        """Moved to another device, without a copy."""
        return self if device.type == "cpu" else replace(self, vision=self.vision.to(device), device=device)
