"""What a model is: where its weights came from, and every setting that decides its numbers, with where that came from.

A file of weights shows neither the nonlinearity nor the preprocessing that it was trained with. What is known of them
is kept here beside its source, what had to be assumed is a sentence of its own, and whatever describes a model (the
load, `headlens doctor`, reports, JSON) renders this one object.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import pandas as pd
from PIL.Image import Resampling

from headlens.errors import ModelError

Nonlinearity = Literal["gelu", "gelu_tanh", "quick_gelu"]

#: How a nonlinearity is written for people.
SPELLED: Mapping[str, str] = {"gelu": "GELU", "gelu_tanh": "GELU (tanh)", "quick_gelu": "QuickGELU"}
RESIZE_MODES: Mapping[str, str] = {
    "shortest": "shorter side to size, then a crop of the centre",
    "longest": "longer side to size, then padding",
    "squash": "both sides to size, whatever the shape",
}
INTERPOLATIONS = ("bicubic", "bilinear")
_READ_STEPS = {
    *("Resize", "ResizeKeepRatio", "CenterCrop", "CenterCropOrPad", "MaybeConvertMode", "_convert_to_rgb"),
    *("_convert_image_to_rgb", "ToTensor", "MaybeToTensor", "Normalize"),
}


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes pixels: resized, scaled to 0–1, then (x − mean) / std for each channel.

    Attributes:
        size: height and width in pixels.
        mean: for red, green and blue.
        std: the same.
        resize_mode: "shortest", "longest" or "squash", as in `RESIZE_MODES`.
        interpolation: "bicubic" or "bilinear".
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize_mode: str
    interpolation: str

    @classmethod
    def of(cls, transform: Any) -> Preprocessing | None:
        """Read a validation transform of open_clip or torchvision; None for one of another kind.

        Raises:
            ModelError: for a transform with random steps, which was made for training.
        """
        steps = list(getattr(transform, "transforms", ()))
        named = {getattr(step, "__name__", type(step).__name__): step for step in steps}
        if training := [name for name in named if name.startswith("Random") or "jitter" in name.lower()]:
            raise ModelError(
                f"The preprocessing has random steps ({', '.join(training)}): it was made for training.",
                "Pass the validation transform, the third value of open_clip.create_model_and_transforms.",
            )
        normalize, resize = named.get("Normalize"), named.get("Resize", named.get("ResizeKeepRatio"))
        if normalize is None or resize is None or len(named) < len(steps) or not set(named) <= _READ_STEPS:
            return None
        crop = named.get("CenterCrop", named.get("CenterCropOrPad"))
        size = _pair((resize if crop is None else crop).size)
        mode = "squash" if crop is None else "shortest" if "CenterCrop" in named else "longest"
        if (crop is None and isinstance(resize.size, int)) or _pair(resize.size) != size:
            return None
        interpolation = str(getattr(resize.interpolation, "value", resize.interpolation))
        return cls(size, _floats(normalize.mean), _floats(normalize.std), mode, interpolation)

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Preprocessing:
        """From open_clip's `preprocess_cfg`."""
        mode, interpolation = str(config["resize_mode"]), str(config["interpolation"])
        return cls(_pair(config["size"]), _floats(config["mean"]), _floats(config["std"]), mode, interpolation)

    @classmethod
    def of_processor(cls, settings: Mapping[str, Any], size: tuple[int, int]) -> Preprocessing:
        """From the settings of an image processor of transformers, as its `to_dict` and its file have them."""
        sides, resample = settings.get("size"), settings.get("resample")
        cropped = settings.get("do_center_crop", not (isinstance(sides, Mapping) and "height" in sides))
        interpolation = Resampling(Resampling.BICUBIC if resample is None else int(resample)).name.lower()
        mean, std = (_floats(settings[name]) for name in ("image_mean", "image_std"))
        return cls(size, mean, std, "shortest" if cropped else "squash", interpolation)

    def as_open_clip(self) -> dict[str, Any]:
        """As open_clip's `preprocess_cfg` has it; the size is the tower's own there."""
        return {
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
            "resize_mode": self.resize_mode,
        }

    def values(self) -> str:
        """Mean, standard deviation, resize mode and interpolation, in one line."""
        mean, std = (_listed(one) for one in (self.mean, self.std))
        return f"mean {mean}, std {std}, resize mode {self.resize_mode!r}, {self.interpolation} interpolation"

    def __str__(self) -> str:
        return f"{self.size[0]} × {self.size[1]} pixels, {self.values()}"


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(one) for one in ((values,) * 3 if isinstance(values, int | float) else values))


def _is_one_a_colour(value: Any, positive: bool) -> bool:
    try:
        floats = _floats(value)
    except (TypeError, ValueError):
        return False
    return len(floats) == 3 and all(map(math.isfinite, floats)) and (min(floats) > 0 or not positive)


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))


def _listed(values: Sequence[float]) -> str:
    return f"{values[0]:.4g}" if len(set(values)) == 1 else "/".join(f"{one:.4g}" for one in values)


@dataclass(frozen=True)
class LoadOptions:
    """What a user states about a model, where its name or file does not say it or says otherwise. None: as found.

    Attributes:
        nonlinearity: "gelu" or "quick_gelu", what the weights were trained with.
        mean: of the pixels, for red, green and blue, or one number for all.
        std: the same.
        resize_mode: "shortest", "longest" or "squash".
        interpolation: "bicubic" or "bilinear".
        image_size: pixels a side, or (height, width). Position embeddings are stretched to it.
        context_length: places of the text tower. Its position embeddings are stretched to it.
        stretch_positions: accept a file whose position embeddings are of another grid or context than the architecture
            named, and stretch them as open_clip does. Without it such a file is refused.
    """

    nonlinearity: Literal["gelu", "quick_gelu"] | None = None
    mean: tuple[float, ...] | float | None = None
    std: tuple[float, ...] | float | None = None
    resize_mode: str | None = None
    interpolation: str | None = None
    image_size: int | tuple[int, int] | None = None
    context_length: int | None = None
    stretch_positions: bool = False

    def __post_init__(self) -> None:
        allowed: dict[str, Sequence[str]] = {
            "nonlinearity": ("gelu", "quick_gelu"),
            "resize_mode": tuple(RESIZE_MODES),
            "interpolation": INTERPOLATIONS,
        }
        for name, values in allowed.items():
            if (value := getattr(self, name)) is not None and value not in values:
                raise ModelError(f"There is no {name} {value!r}.", f"Choose one of {', '.join(values)}.")
        for name in ("mean", "std"):
            if (value := getattr(self, name)) is not None and not _is_one_a_colour(value, positive=name == "std"):
                raise ModelError(f"{name}={value!r} is not one number a colour.", f"Write {name}=(0.5, 0.5, 0.5).")
        for name in ("image_size", "context_length"):
            value = getattr(self, name)
            sizes = value if isinstance(value, list | tuple) and name == "image_size" and len(value) == 2 else [value]
            if value is not None and not all(type(one) is int and one > 0 for one in sizes):
                example = 224 if name == "image_size" else 77
                raise ModelError(f"{name}={value!r} is not a positive whole number.", f"Write {name}={example}.")

    def preprocessing(self) -> dict[str, Any]:
        """What is stated of the preprocessing, under open_clip's names."""
        stated = {name: getattr(self, name) for name in ("mean", "std", "resize_mode", "interpolation")}
        return {
            name: _floats(value) if name in ("mean", "std") else value
            for name, value in stated.items()
            if value is not None
        }

    def written(self) -> str:
        """The Python that makes it, with what differs from the defaults."""
        given = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self))
        default = (f"{one.name}={one.default!r}" for one in fields(self))
        return f"hl.LoadOptions({', '.join(a for a, b in zip(given, default, strict=True) if a != b)})"


@dataclass(frozen=True)
class ModelDescription:
    """Where a model came from and what decides its numbers, each with its source.

    Attributes:
        name: the architecture, folder or hub; "open_clip model" for an object without a name.
        weights: the tag or the file; None where the name holds the weights.
        source: "tag", "file", "folder", "hub", "embedded", "random" or "object".
        call: the Python that loads it again; "" for an object.
        nonlinearity: of the MLPs; None where the tower has none of the known ones.
        nonlinearity_from: who says so.
        preprocessing: how pictures become pixels; None where that cannot be read from the transform.
        preprocessing_from: who says so.
        positions: "as trained", or from and to which grid the position embeddings were stretched.
        context: the same of the text tower's places.
        notes: what was switched, stretched, renamed or left out, as sentences.
        assumptions: what nothing states and was therefore assumed, as sentences.
    """

    name: str
    weights: str | None = None
    source: str = "object"
    call: str = ""
    nonlinearity: str | None = None
    nonlinearity_from: str = "the model object"
    preprocessing: Preprocessing | None = None
    preprocessing_from: str = "the transform that was passed"
    positions: str = "as trained"
    context: str = "as trained"
    notes: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What reports call the model: its name, and its weights in brackets."""
        return self.name if self.weights is None or self.source == "random" else f"{self.name} ({self.weights})"

    def facts(self) -> dict[str, str]:
        """Everything as name and text, in the order in which it is read."""
        act = "unknown" if self.nonlinearity is None else SPELLED.get(self.nonlinearity, self.nonlinearity)
        pixels = "a transform that is not read" if self.preprocessing is None else str(self.preprocessing)
        described = {
            "model": self.label,
            "source": self.source,
            "nonlinearity": f"{act} (from {self.nonlinearity_from})",
            "preprocessing": f"{pixels} (from {self.preprocessing_from})",
            "position embeddings": self.positions,
            "text context": self.context,
        }
        described |= {"note": " ".join(self.notes)} if self.notes else {}
        return described | ({"assumed": " ".join(self.assumptions)} if self.assumptions else {})

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return asdict(self)

    def table(self) -> pd.DataFrame:
        """`facts` as a table of two columns."""
        return pd.DataFrame(list(self.facts().items()), columns=["what", "value"])

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True)
