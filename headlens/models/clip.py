"""An image-text model: the hooked vision tower, and open_clip's own text tower beside it."""

from __future__ import annotations

import copy as copying
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from headlens.errors import ModelError
from headlens.models.fingerprint import fingerprint
from headlens.models.open_clip_weights import check_finite
from headlens.models.short_texts import without_padding
from headlens.models.vision_transformer import HookedVisionTransformer
from headlens.progress import progress

_TEXTS_AT_ONCE = 64


class HookedCLIP(nn.Module):
    """A CLIP whose vision tower is open to hooks and decomposition; texts go through the original text tower.

    Attributes:
        vision: the hooked tower.
        text: the original model without its vision tower.
        preprocess: PIL image -> pixels [3 height width].
        tokenizer: list of texts -> token ids [text context].
        name: what the model is called in reports.
    """

    def __init__(
        self,
        vision: HookedVisionTransformer,
        text: Any,
        preprocess: Callable[[Any], Tensor],
        tokenizer: Callable[[list[str]], Tensor],
        name: str,
    ):
        super().__init__()
        self.vision = vision
        self.text = text
        self.preprocess = preprocess
        self.tokenizer = tokenizer
        self.name = name
        self._fingerprint: tuple[tuple, str] | None = None

    @classmethod
    def from_open_clip(
        cls,
        model: Any,
        preprocess: Callable[[Any], Tensor],
        tokenizer: Callable[[list[str]], Tensor],
        name: str = "open_clip model",
        copy: bool = True,
    ) -> HookedCLIP:
        """Wrap an open_clip model, its validation transform and its tokenizer.

        Args:
            model: anything with open_clip's `visual` and `encode_text`.
            preprocess: PIL image -> pixels.
            tokenizer: list of texts -> token ids.
            name: for reports.
            copy: own all weights, and leave `model` as it was. Without it the memory is shared.

        Raises:
            ModelError: for a vision tower that cannot be converted, or weights that are not finite.
        """
        vision = HookedVisionTransformer.from_open_clip(model.visual, copy=copy)
        # A second shell around the same submodules, so that the caller's model keeps its vision tower.
        text = copying.copy(model)
        text._modules = {key: module for key, module in model._modules.items() if key != "visual"}
        if copy:
            text = copying.deepcopy(text)
        check_finite(text)
        return cls(vision, text.eval(), preprocess, tokenizer, name)

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
        """What the model multiplies cosines by before its softmax."""
        return float(self.text.logit_scale.detach().exp())

    @property
    def fingerprint(self) -> str:
        """Names the vision tower's weights and the preprocessing, which together determine every head state."""
        state = tuple((p.data_ptr(), p._version, p.dtype) for p in self.vision.parameters())
        if self._fingerprint is None or self._fingerprint[0] != state:
            self._fingerprint = (state, fingerprint(self.vision, self.preprocess))
        return self._fingerprint[1]

    def encode_image(
        self, images: Float[Tensor, "image channel height width"], normalize: bool = False
    ) -> Float[Tensor, "image embed"]:
        """Embed preprocessed images. Hooks on `vision` fire; gradients are kept only where `images` require them.

        Raises:
            ModelError: for images of another size.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and images.requires_grad):
            embedding = self.vision(images.to(self.device))
            return F.normalize(embedding, dim=-1) if normalize else embedding

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], normalize: bool = False) -> Float[Tensor, "text embed"]:
        """Embed texts, a few dozen at a time, without gradients.

        Raises:
            ModelError: for no text at all.
            VocabularyError: for a word that the tokenizer refuses.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise ModelError("at least one text to embed", "an empty list", "Pass the prompts as a list of strings.")
        batches = [texts[i : i + _TEXTS_AT_ONCE] for i in range(0, len(texts), _TEXTS_AT_ONCE)]
        with progress("Embedding texts", len(texts), "texts") if len(batches) > 1 else nullcontext() as advance:
            rows = []
            for batch in batches:
                tower, tokens = without_padding(self.text, self.tokenizer(batch).to(self.device))
                rows.append(tower.encode_text(tokens, normalize=normalize))
                if advance:
                    advance(len(batch))
        return torch.cat(rows)
