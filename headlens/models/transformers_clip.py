"""CLIP, SigLIP and SigLIP 2 of transformers: text tower, tokenizer and image processor behind open_clip's interface.

transformers loads what it knows by itself, from a folder or by name; here its objects are only given the methods that
`HookedCLIP` calls.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from PIL.Image import Image, Resampling
from torch import Tensor, nn

from headlens.errors import ModelError
from headlens.models.description import Preprocessing
from headlens.models.families.conversion import to_original
from headlens.models.hub import hub

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("clip", "siglip", "siglip2", "clip_vision_model", "siglip_vision_model", "siglip2_vision_model")
_CONFIG = "config.json"


class TextTower(nn.Module):
    """A model of transformers without its vision tower, with open_clip's `encode_text`, `logit_scale`, `logit_bias`.

    Attributes:
        model: what is left of the original.
        logit_scale: the logarithm of what cosines are multiplied by.
        logit_bias: what SigLIP adds to its logits; None for CLIP.
    """

    def __init__(self, model: Any):
        super().__init__()
        self.model = copy.copy(model)  # a second shell around the same modules
        self.model._modules = {name: one for name, one in model._modules.items() if name not in _VISION}

    @property
    def logit_scale(self) -> Tensor:
        return self.model.logit_scale

    @property
    def logit_bias(self) -> Tensor | None:
        return getattr(self.model, "logit_bias", None)

    def encode_text(self, tokens: Int[Tensor, "text context"], normalize: bool = False) -> Float[Tensor, "text embed"]:
        """Embed token ids; padding needs no mask, which these models were trained without, or read causally."""
        output = self.model.get_text_features(input_ids=tokens)
        rows = output if isinstance(output, Tensor) else output.pooler_output
        return nn.functional.normalize(rows, dim=-1) if normalize else rows


_VISION = ("vision_model", "visual_projection")


class Tokenizer:
    """A tokenizer of transformers that returns ids of the model's whole context, as its processor does.

    Attributes:
        tokenizer: transformers' own.
        context: places of the text tower.
    """

    def __init__(self, tokenizer: Any, context: int):
        self.tokenizer, self.context = tokenizer, context

    def __call__(self, texts: list[str]) -> Int[Tensor, "text context"]:
        how = {"padding": "max_length", "truncation": True, "max_length": self.context, "return_tensors": "pt"}
        return self.tokenizer(texts, **how)["input_ids"]

    def save_pretrained(self, folder: str) -> None:
        """Write its files."""
        self.tokenizer.save_pretrained(folder)


class Processor:
    """An image processor of transformers as a function of one picture.

    Its `repr` shows every setting, and so the fingerprint of a model names them.

    Args:
        processor: transformers' own.
        size: height and width that the tower takes. A processor of flexible resolution (SigLIP 2) is made to squash
            every picture to it.
    """

    def __init__(self, processor: Any, size: tuple[int, int]):
        self.processor, self.size = processor, size
        self.flexible = hasattr(processor, "max_num_patches")

    def __call__(self, image: Image) -> Float[Tensor, "channel height width"]:
        image = image.convert("RGB")
        if not self.flexible:
            return self.processor(images=image, return_tensors="pt")["pixel_values"][0]
        said = self.preprocessing
        pixels = torch.from_numpy(_array(image.resize(self.size[::-1], Resampling[said.interpolation.upper()])))
        mean, std = (torch.tensor(one).view(3, 1, 1) for one in (said.mean, said.std))
        return (pixels * self.processor.rescale_factor - mean) / std

    @property
    def preprocessing(self) -> Preprocessing:
        """The same in words: what open_clip's configuration would say."""
        settings = self.processor.to_dict() | ({"do_center_crop": False} if self.flexible else {})
        return Preprocessing.of_processor(settings, self.size)

    def __repr__(self) -> str:
        said = {name: str(value) for name, value in self.processor.to_dict().items() if not name.startswith("_")}
        return f"Processor({json.dumps(said, sort_keys=True)}, size={self.size})"


def _array(image: Image) -> Any:
    import numpy as np

    return np.asarray(image, dtype=np.float32).transpose(2, 0, 1).copy()


def sides(model: Any, processor: Any, size: tuple[int, int]) -> tuple[TextTower | None, Tokenizer | None, Processor]:
    """Text tower, tokenizer and picture processor of a model.

    Args:
        model: the whole model, or its vision model.
        processor: its `AutoProcessor`, or the image processor alone.
        size: what the vision tower takes.

    Raises:
        ModelError: for a processor that has no image processor, or one of pictures of another size.
    """
    pictures = getattr(processor, "image_processor", processor)
    if not hasattr(pictures, "image_mean"):
        raise ModelError(
            f"{type(processor).__name__} does not prepare pictures.",
            "Pass transformers.AutoProcessor.from_pretrained(name), of the same name as the model.",
        )
    prepared = Processor(pictures, size)
    tokenizer, text = getattr(processor, "tokenizer", None), None
    if hasattr(model, "get_text_features") and tokenizer is not None:
        text = TextTower(model)
        context = model.config.text_config.max_position_embeddings
        return text, Tokenizer(tokenizer, context), prepared
    return None, None, prepared


def is_folder(path: Path) -> bool:
    """Whether a folder holds a model of transformers alone, of whatever kind; timm's configuration names no kind."""
    if (path / "open_clip_config.json").is_file():
        return False
    try:
        return "model_type" in json.loads((path / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, TypeError):
        return False
    except ValueError:
        return True  # it is broken, as transformers will find


def load(name: str) -> tuple[Any, Any, str]:
    """A model and its processor, by transformers' own loading; and what the name turned out to be.

    Args:
        name: a folder, or a name on the hub such as "openai/clip-vit-base-patch32".

    Raises:
        ModelError: for what transformers cannot load, and for models of other kinds.
    """
    import transformers

    source = "folder" if Path(name).is_dir() else "hub"
    with _explained(name, source):
        config = transformers.AutoConfig.from_pretrained(name)
    if config.model_type not in KINDS:
        raise ModelError(
            f"{name} is a {config.model_type} of transformers, not a CLIP, SigLIP or SigLIP 2.",
            "docs/models.md lists the models that are understood.",
        )
    with _explained(name, source):
        if config.model_type == "clip_vision_model":
            build: Callable[..., Any] = transformers.CLIPVisionModelWithProjection.from_pretrained
        else:
            build = transformers.AutoModel.from_pretrained
        model = build(name, dtype=torch.float32)
        try:
            processor = transformers.AutoProcessor.from_pretrained(name)
        except (OSError, ValueError):
            processor = transformers.AutoImageProcessor.from_pretrained(name)
    return model.eval(), processor, source


def save(clip: Any, folder: Path) -> None:
    """Write a whole model as the folder of transformers that it came from: configuration, weights, both processors."""
    whole = type(clip.text.model)(clip.text.model.config)
    own = whole.state_dict()
    inside = {name.removeprefix("vision_model."): name for name in own}
    table = {name.removeprefix("model."): tensor for name, tensor in clip.text.state_dict().items()}
    for name, tensor in to_original(clip.vision, inside).items():
        if tensor.ndim == 4 and own[inside[name]].ndim == 2:  # SigLIP 2 keeps the patches' convolution as a matrix
            tensor = rearrange(tensor, "width channel row column -> width (row column channel)")
        table[inside[name]] = tensor
    whole.load_state_dict(table)
    whole.to(clip.dtype).save_pretrained(folder)
    clip.tokenizer.save_pretrained(str(folder))
    clip.preprocess.processor.save_pretrained(folder)


@contextmanager
def _explained(name: str, source: str) -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # a load of headlens' own shows none either
    try:
        with hub() if source == "hub" else nullcontext():
            yield
    except Exception as error:  # transformers and its hub raise many kinds
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        what, where = "the folder cannot be loaded", "Fetch the whole folder again"
        if source == "hub":
            what = "there is no such folder, and as a name it is not at hand and cannot be fetched"
            where = "Without a network, fetch the whole folder elsewhere"
        raise ModelError(
            f"{name}: {what} by transformers ({shorten(said, 200, placeholder=' …').rstrip('.')}).",
            f"{where} (config.json, the weights, preprocessor_config.json and the tokenizer) and pass its path: "
            'hl.load("/path/to/clip-vit-base-patch32").',
        ) from error
    finally:
        if shown:
            logging.enable_progress_bar()
