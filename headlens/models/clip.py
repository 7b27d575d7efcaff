"""An image-text model: the hooked vision tower, and open_clip's own text tower beside it."""

from __future__ import annotations

import copy as copying
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from headlens.correct.base import Correction, load_correction
from headlens.errors import ModelError, ModelWarning, check_type
from headlens.fingerprint import fingerprint, settings_state, weights_state
from headlens.models import transformers_clip
from headlens.models.activation_cache import ActivationCache
from headlens.models.altered import check_finite, difference_on_noise, evaluating, unaltered
from headlens.models.corrected import CorrectedCLIP, check_usable
from headlens.models.description import ModelDescription, Preprocessing
from headlens.models.save import save_open_clip
from headlens.models.vision_transformer import HookedVisionTransformer
from headlens.progress import progress

_TEXTS_AT_ONCE = 64


class HookedCLIP(nn.Module):
    """A CLIP whose vision tower is open to hooks and decomposition; texts go through the original text tower.

    Attributes:
        vision: the hooked tower.
        text: the original model without its vision tower; None for a vision tower alone.
        preprocess: PIL image -> pixels [3 height width].
        tokenizer: list of texts -> token ids [text context]; None for a vision tower alone.
        description: where the model came from, and what decides its numbers.
        open_clip_config: open_clip's `model_cfg` of it, where it was loaded by one; `save` works it out elsewhere.
    """

    def __init__(
        self,
        vision: HookedVisionTransformer,
        text: Any,
        preprocess: Callable[[Any], Tensor],
        tokenizer: Callable[[list[str]], Tensor] | None,
        description: ModelDescription,
    ):
        super().__init__()
        self.vision = vision
        self.text = text
        self.preprocess = preprocess
        self.tokenizer = tokenizer
        self.description = description
        self.open_clip_config: dict[str, Any] | None = None
        self._fingerprint: tuple[object, str] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; what a new `preprocess` does is said in the description."""
        super().__setattr__(name, value)
        if name == "preprocess" and "description" in self.__dict__:
            said = Preprocessing.of(value)
            self.description = replace(
                self.description, preprocessing=said, preprocessing_from="the transform that was set"
            )

    @classmethod
    def from_open_clip(
        cls,
        model: Any,
        preprocess: Callable[[Any], Tensor],
        tokenizer: Callable[[list[str]], Tensor] | None,
        name: str = "open_clip model",
        copy: bool = True,
    ) -> HookedCLIP:
        """Wrap an open_clip model, its validation transform and its tokenizer.

        Args:
            model: anything with open_clip's `visual` and `encode_text`. DataParallel and torch.compile are taken off,
                LoRA, parametrisations, pruning and weight norm are merged into the weights (on a copy).
            preprocess: PIL image -> pixels.
            tokenizer: list of texts -> token ids; None for a vision tower alone.
            name: for reports.
            copy: own all weights, and leave `model` as it was. Without it the memory is shared.

        Raises:
            ModelError: for a vision tower that cannot be converted or was altered (hooks, replaced methods, further
                modules, …), weights that are not finite, and a transform with random steps.
        """
        if not callable(preprocess) or hasattr(tokenizer, "transforms"):
            raise ModelError(
                f"preprocess is a {type(preprocess).__name__} and tokenizer a {type(tokenizer).__name__}.",
                "Pass the validation transform second and the tokenizer third: from_open_clip(model, preprocess, "
                "open_clip.get_tokenizer(name)).",
            )
        model = unaltered(model)
        vision = HookedVisionTransformer.from_open_clip(getattr(model, "visual", model), copy=copy)
        _check_encoding(model, vision)
        text = None
        if tokenizer is not None and not hasattr(model, "encode_text"):
            raise ModelError(
                f"{type(model).__name__} has no encode_text, and a tokenizer was passed beside it.",
                "Pass a model of transformers to HookedCLIP.from_transformers, and a vision tower alone with None as "
                "tokenizer.",
            )
        if tokenizer is not None:
            # A second shell around the same submodules, so that the caller's model keeps its vision tower.
            text = copying.copy(model)
            text._modules = {key: module for key, module in model._modules.items() if key != "visual"}
            if copy:
                text = copying.deepcopy(text)
            check_finite(text.state_dict())
            text.eval()
        description = ModelDescription(
            name, nonlinearity=getattr(vision.cfg, "act", None), preprocessing=Preprocessing.of(preprocess)
        )
        return cls(vision, text, preprocess, tokenizer, description)

    @classmethod
    def from_transformers(
        cls, model: Any, processor: Any, name: str = "transformers model", copy: bool = True
    ) -> HookedCLIP:
        """Wrap a CLIP, SigLIP or SigLIP 2 of transformers and its processor.

        A vision model alone has no text side: heads, moments, pictures and token maps work, and what needs texts says
        so. SigLIP 2 of flexible resolution is used at its own square grid, to which pictures are squashed.

        Args:
            model: `CLIPModel`, `CLIPVisionModelWithProjection`, `SiglipModel`, `Siglip2Model`, or their vision models.
            processor: its `AutoProcessor`; an image processor for a vision model alone.
            name: for reports.
            copy: own all weights, and leave `model` as it was. Without it the memory is shared.

        Raises:
            ModelError: as `from_open_clip`.
        """
        model = unaltered(model)
        vision = HookedVisionTransformer.from_transformers(model, copy=copy)
        text, tokenizer, preprocess = transformers_clip.sides(model, processor, vision.cfg.image_size)
        if text is not None:
            if copy:
                text = copying.deepcopy(text)
            check_finite(text.state_dict())
            text.eval()
        size = " × ".join(map(str, vision.cfg.image_size))
        squashed = f"Pictures are squashed to {size} pixels, where the processor would keep their shape."
        description = ModelDescription(
            name,
            nonlinearity=vision.cfg.act,
            preprocessing=preprocess.preprocessing,
            preprocessing_from="the processor",
            notes=(squashed,) if preprocess.flexible else (),
        )
        return cls(vision, text, preprocess, tokenizer, description)

    @property
    def name(self) -> str:
        """What the model is called in reports."""
        return self.description.label

    @property
    def device(self) -> torch.device:
        """Where the vision tower's weights are."""
        return self.vision.device

    @property
    def dtype(self) -> torch.dtype:
        """The vision tower's type."""
        return self.vision.dtype

    @property
    def logit_scale(self) -> float:
        """What the model multiplies cosines by before its softmax or sigmoid."""
        return float(self._text_side("logit scale").logit_scale.detach().exp())

    @property
    def logit_bias(self) -> float | None:
        """What a model with a sigmoid loss adds to its logits; None for one with a softmax."""
        bias = getattr(self._text_side("logit bias"), "logit_bias", None)
        return None if bias is None else float(bias.detach())

    def probabilities(
        self, images: Float[Tensor, "image embed"], texts: Float[Tensor, "text embed"]
    ) -> Float[Tensor, "image text"]:
        """What the model's own head makes of embeddings: p = softmax over the texts of s·cos, or, for a model that was
        trained with a sigmoid, p = sigmoid(s·cos + b) of each text by itself. The order of the texts is that of the
        cosines either way.

        Args:
            images: embeddings; their length does not matter.
            texts: the same of texts.

        Raises:
            ModelError: for a model without a text tower.
        """
        wide = torch.promote_types(images.dtype, texts.dtype)
        cosines = F.normalize(images.to(wide), dim=-1) @ F.normalize(texts.to(wide), dim=-1).T
        logits = self.logit_scale * cosines
        return logits.softmax(-1) if self.logit_bias is None else (logits + self.logit_bias).sigmoid()

    def __repr__(self) -> str:
        cfg, side = self.vision.cfg, "" if self.text is not None else ", no text tower"
        return (
            f"HookedCLIP({self.name}: {cfg.n_layers} layers × {cfg.n_heads} heads, embeddings of {cfg.d_embed}, "
            f"images of {' × '.join(map(str, cfg.image_size))} pixels, on {self.device}{side})"
        )

    @property
    def fingerprint(self) -> str:
        """Names the vision tower's weights and settings and the preprocessing, which determine every head state."""
        state = (weights_state(self.vision), settings_state(self.vision, self.vision.cfg, self.preprocess))
        if self._fingerprint is None or self._fingerprint[0] != state:
            self._fingerprint = (state, fingerprint(self.vision, self.vision.cfg, self.preprocess))
        return self._fingerprint[1]

    def encode_image(
        self, images: Float[Tensor, "image channel height width"], normalize: bool = False
    ) -> Float[Tensor, "image embed"]:
        """Embed preprocessed images. Hooks on `vision` fire; gradients are kept only where `images` require them.

        Raises:
            ModelError: for images of another size, or that are no floating-point pixels.
        """
        images = self.vision.checked(images)
        with torch.set_grad_enabled(torch.is_grad_enabled() and images.requires_grad):
            embedding = self.vision(images.to(self.device))
            return F.normalize(embedding, dim=-1) if normalize else embedding

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], normalize: bool = False) -> Float[Tensor, "text embed"]:
        """Embed texts, a few dozen at a time, without gradients. A text that is cut at the context is warned of.

        Raises:
            ModelError: for no text at all, and for a model without a text tower.
            VocabularyError: for a word that the tokenizer refuses.
        """
        text_side = self._text_side("text embeddings")
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise ModelError("There is no text to embed.", "Pass the prompts as a list of strings.")
        batches = [texts[i : i + _TEXTS_AT_ONCE] for i in range(0, len(texts), _TEXTS_AT_ONCE)]
        with progress("Embedding texts", len(texts), "texts") if len(batches) > 1 else nullcontext() as advance:
            rows = []
            for batch in batches:
                tower, tokens = without_padding(text_side, self.tokens(batch).to(self.device))
                with _several_types_named(text_side):
                    rows.append(tower.encode_text(tokens, normalize=normalize))
                if advance:
                    advance(len(batch))
        return torch.cat(rows)

    def tokens(self, texts: Sequence[str]) -> Int[Tensor, "text context"]:
        """The token ids of texts. A text that is cut at the context is warned of.

        Raises:
            ModelError: for a model without a text tower, and for what is no text.
            VocabularyError: for a word that the tokenizer refuses.
        """
        self._text_side("tokens")
        assert self.tokenizer is not None
        how = "Pass the prompts as a list of strings: ['a photo of a bird']; clip.text.encode_text embeds token ids."
        for text in texts:
            check_type("One of the texts", text, str, how, ModelError)
        ids = self.tokenizer(list(texts))
        _warn_of_cut_texts(self.tokenizer, texts, ids)
        return ids

    def corrected(self, correction: Correction | str | os.PathLike[str]) -> CorrectedCLIP:
        """This model with a correction inside its forward pass, behind open_clip's interface; see `CorrectedCLIP`.

        Args:
            correction: fitted, or the folder that `Correction.save` wrote.

        Raises:
            CorrectionError: for one that is not fitted, of another model, a probe, or one that makes an image's result
                depend on other images.
        """
        loaded = load_correction(correction) if isinstance(correction, str | os.PathLike) else correction
        check_usable(loaded, self.fingerprint)
        return CorrectedCLIP(self.vision, self.text, loaded)

    def save(self, folder: str | os.PathLike[str], card: str = "") -> Path:
        """Write a folder that open_clip loads, `open_clip.create_model("local-dir:folder")`, and `hl.load(folder)` too;
        for a model of transformers, a folder that transformers loads.

        It holds the configuration, the weights as safetensors, the tokenizer's files where open_clip does not have
        it, and a README.md that describes the model.

        Args:
            folder: where to write: a new or empty folder, or one that this method wrote before.
            card: Markdown to add to the README.md.

        Raises:
            ModelError: for a model that open_clip's configuration cannot describe, or without a text tower.
            OutputError: for a folder with other files in it.
        """
        return save_open_clip(self, Path(folder), card)

    @property
    def hook_dict(self) -> dict[str, HookPoint]:
        """Every hook point of the vision tower, by name."""
        return self.vision.hook_dict

    def run_with_hooks(self, *args: Any, **kwargs: Any) -> Tensor:
        """The vision tower's `run_with_hooks`."""
        return self.vision.run_with_hooks(*args, **kwargs)

    def run_with_cache(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ActivationCache]:
        """The vision tower's `run_with_cache`."""
        return self.vision.run_with_cache(*args, **kwargs)

    def hooks(self, *args: Any, **kwargs: Any) -> AbstractContextManager:
        """The vision tower's `hooks`, a context."""
        return self.vision.hooks(*args, **kwargs)

    def add_hook(self, *args: Any, **kwargs: Any) -> None:
        """The vision tower's `add_hook`."""
        self.vision.add_hook(*args, **kwargs)

    def reset_hooks(self, *args: Any, **kwargs: Any) -> None:
        """The vision tower's `reset_hooks`."""
        self.vision.reset_hooks(*args, **kwargs)

    def _text_side(self, what: str) -> Any:
        if self.text is None:
            raise ModelError(
                f"{self.name} is a vision tower alone: it has no {what}.",
                "Load a checkpoint that holds the text tower too; heads, moments and token maps need none.",
            )
        return self.text


@contextmanager
def _several_types_named(text: nn.Module) -> Iterator[None]:
    """Say of a text tower that fails with weights of several types what torch's own error does not."""
    try:
        yield
    except RuntimeError as error:
        kinds = sorted({str(weight.dtype).removeprefix("torch.") for weight in text.parameters()})
        if len(kinds) == 1:
            raise
        raise ModelError(
            f"The text tower has weights of several types ({', '.join(kinds)}) and does not run: "
            f"{str(error).splitlines()[0]}.",
            'Give them one type: model.float(), or hl.load(…, precision="pure_bf16").',
        ) from error


def _warn_of_cut_texts(tokenizer: Any, texts: Sequence[str], tokens: Int[Tensor, "text context"]) -> None:
    """Name texts whose end the tokenizer dropped: what distinguishes one prompt from another may stand there."""
    inner, context = getattr(tokenizer, "tokenizer", None), tokens.shape[1]
    for row in (tokens[:, -1] != (getattr(inner, "pad_token_id", None) or 0)).nonzero()[:, 0].tolist():
        if inner is not None:  # open_clip's wrappers around tokenizers of transformers
            clean = getattr(tokenizer, "clean_fn", str)
            length = len(inner(clean(texts[row]), truncation=False).input_ids)
        elif hasattr(tokenizer, "sot_token_id"):
            length = len(tokenizer.encode(texts[row])) + 2
        else:
            return
        if length > context:
            warnings.warn(
                f"The text {shorten(texts[row], 60, placeholder=' …')!r} has {length} tokens, and the model reads "
                f"{context}: its end is cut off. Shorten it.",
                ModelWarning,
                stacklevel=5,
            )


def _check_encoding(model: Any, vision: HookedVisionTransformer) -> None:
    """Refuse a model whose own `encode_image` is more than its vision tower: what it adds would be lost."""
    own = getattr(type(model), "encode_image", None)
    if own is None or own.__module__.startswith("open_clip."):
        return
    with evaluating(model):
        difference = difference_on_noise(model.encode_image, vision, vision.cfg.image_size, vision.layers[0].attn.W_O)
    if not difference <= 1e-2:
        raise ModelError(
            f"{type(model).__name__}.encode_image computes something else than the model's vision tower.",
            "What it does besides would be lost in the conversion: pass a model of open_clip's own classes.",
        )


def without_padding(text: Any, tokens: Int[Tensor, "text context"]) -> tuple[Any, Int[Tensor, "text place"]]:
    """The text tower and its tokens, cut behind the end of the longest text: of 77 places a prompt fills eight.

    Under a causal mask a token sees only what stands before it, so nothing behind a text's end reaches the place that
    is pooled: the embeddings are those of the whole context, up to rounding. A tower that is not of open_clip's plain
    kind (a learned position for each place, a causal mask, the embedding taken at the highest token number) comes back
    as it is, with all of its tokens.

    Args:
        text: an open_clip `CLIP`; it is left as it was, and its weights are shared.
        tokens: what its tokenizer made.
    """
    positions: Any = getattr(text, "positional_embedding", None)
    mask: Any = getattr(text, "attn_mask", None)
    causal = mask is not None and torch.equal(mask, torch.full_like(mask, -torch.inf).triu(1))
    if positions is None or not causal or getattr(text, "text_pool_type", None) != "argmax":
        return text, tokens
    places = int(tokens.argmax(dim=-1).max()) + 1
    short = copying.copy(text)
    # Narrowed views under the names that the tower reads.
    narrow = nn.Parameter(positions[:places], requires_grad=positions.requires_grad)
    short._parameters = text._parameters | {"positional_embedding": narrow}
    short._buffers = text._buffers | {"attn_mask": mask[:places, :places]}
    return short, tokens[:, :places]
