"""A corrected model in use: open_clip's interface, with the correction inside the forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from headlens.correct.base import ClassifierCorrection, Correction
from headlens.correct.compose import ByImage
from headlens.correct.probes import Probe
from headlens.correct.views import embedding_of
from headlens.errors import CorrectionError
from headlens.models.vision_transformer import HookedVisionTransformer
from headlens.states.kept_basis import kept_basis


class CorrectedCLIP(nn.Module):
    """A CLIP whose image embeddings are corrected: `HookedCLIP.corrected` makes it.

    Code that was written for a model of open_clip calls it unchanged. With u = f/‖f‖ the unit embedding and u′ what the
    correction makes of it and of its heads' parts, `encode_image` returns ‖f‖ u′, so that an image's ranking of classes
    is that of an audit of the same correction. `normalize=True` divides by ‖u′‖ once more, as open_clip does: this
    leaves each image's ranking of texts as it is, but can change a text's ranking of images.

    The edit is direct: what later layers made of an edited head stays. The weights are shared with the model that it
    was made of, which `.to()` and `.half()` therefore move and cast too.

    Attributes:
        vision: the hooked tower; hooks on it are refused where heads are edited, see `residual_parts`.
        text: the text tower; None for a vision tower alone.
        correction: what is applied; fitted.
    """

    def __init__(self, vision: HookedVisionTransformer, text: Any, correction: Correction):
        super().__init__()
        self.vision = vision
        self.text = text
        self.correction = correction
        self.output_dict = bool(getattr(text, "output_dict", False))
        self.eval()

    @property
    def logit_scale(self) -> Tensor:
        """The logarithm of what cosines are multiplied by, as open_clip keeps it."""
        scale: Tensor = self._text_side.logit_scale
        return scale

    @property
    def logit_bias(self) -> Tensor | None:
        """What a model with a sigmoid loss adds to its logits; None for one with a softmax."""
        return getattr(self._text_side, "logit_bias", None)

    def encode_image(
        self, image: Float[Tensor, "image channel height width"], normalize: bool = False
    ) -> Float[Tensor, "image embed"]:
        """The corrected embeddings, in the weights' precision, or in that of autocast.

        Raises:
            ModelError: for images of another size, and while hooks are set and heads are edited.
            CorrectionError: where the correction cannot be applied to an image, as `Correction.apply`.
        """
        return self.encode_both(image, normalize)[1]

    def encode_both(
        self, image: Float[Tensor, "image channel height width"], normalize: bool = False
    ) -> tuple[Float[Tensor, "image embed"], Float[Tensor, "image embed"]]:
        """The plain and the corrected embeddings, of one forward pass; raises as `encode_image`."""
        image = self.vision.checked(image).to(self.vision.device)
        kind = image.device.type
        # As open_clip's: the last product is in the precision of autocast, as the text embeddings are.
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.vision.dtype
        with torch.set_grad_enabled(torch.is_grad_enabled() and image.requires_grad):
            batch = _Batch.of(self.vision, image, sorted({head.layer for head in self.correction.edited}))
            with torch.autocast(kind, enabled=False):
                corrected = embedding_of(self.correction.apply(batch)) * batch.norm
            plain, corrected = batch.f.to(dtype), corrected.to(dtype)
            if normalize:
                return F.normalize(plain, dim=-1), F.normalize(corrected, dim=-1)
        return plain, corrected

    def encode_text(self, text: Int[Tensor, "text context"], normalize: bool = False) -> Float[Tensor, "text embed"]:
        """The embeddings of token ids, by the model's own text tower.

        Raises:
            CorrectionError: for a vision tower alone.
        """
        embedding: Tensor = self._text_side.encode_text(text.to(self.vision.device), normalize=normalize)
        return embedding

    def classifier(self, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "class embed"]:
        """The class embeddings that the correction uses instead of these: others for a calibrated classifier.

        Args:
            classifier: the class embeddings, unit norm.

        Raises:
            CorrectionError: as the correction's `logits`.
        """
        for one in self.correction.walk():
            if isinstance(one, ClassifierCorrection):
                return one.scores(torch.eye(classifier.shape[1]).to(classifier), classifier).T
        return classifier

    def get_logits(
        self, image: Float[Tensor, "image channel height width"], text: Int[Tensor, "text context"]
    ) -> tuple[Float[Tensor, "image text"], Float[Tensor, "text image"]]:
        """s·cos (+ b) of every image and text, and the same transposed."""
        images, texts = self.encode_image(image, normalize=True), self.encode_text(text, normalize=True)
        logits = self.logit_scale.exp() * images @ texts.T
        if self.logit_bias is not None:
            logits = logits + self.logit_bias
        return logits, logits.T

    def forward(
        self,
        image: Float[Tensor, "image channel height width"] | None = None,
        text: Int[Tensor, "text context"] | None = None,
    ) -> Any:
        """What open_clip's `forward` returns: unit embeddings of images and of texts, exp(logit_scale) and, where there
        is one, logit_bias; a dictionary where the model was made with `output_dict`."""
        found = {
            "image_features": None if image is None else self.encode_image(image, normalize=True),
            "text_features": None if text is None else self.encode_text(text, normalize=True),
            "logit_scale": self.logit_scale.exp(),
        }
        if self.logit_bias is not None:
            found["logit_bias"] = self.logit_bias
        return found if self.output_dict else tuple(found.values())

    @property
    def _text_side(self) -> Any:
        if self.text is None:
            raise CorrectionError(
                "The corrected model is a vision tower alone: it has no text side.",
                "Use encode_image, or load a checkpoint that holds the text tower too.",
            )
        return self.text


def check_usable(correction: Any, fingerprint: str) -> None:
    """Raises `CorrectionError` for what cannot work on images one by one, or belongs to another model."""
    if not isinstance(correction, Correction):
        raise CorrectionError(
            f"A {type(correction).__name__} is not a correction.",
            "Pass one that headlens.correct makes, or the folder of a saved one; total ablation is hl.bake's.",
        )
    parts = list(correction.walk())
    if not correction.fitted:
        raise CorrectionError(f"{correction!r} cannot be used yet.", "Call .fit(reference), and keep what it returns.")
    if correction.transductive:
        raise CorrectionError(
            f"{correction!r} makes one image's result depend on the others.",
            "Fit one on a reference split: reference='split'.",
        )
    if any(isinstance(one, Probe) for one in parts):
        raise CorrectionError(
            f"{correction!r} holds a probe, whose classes are not texts.", "Use its own logits(store, classifier)."
        )
    if correction.changes_classifier and any(isinstance(one, ByImage) for one in parts):
        raise CorrectionError(
            f"{correction!r} gives each image a classifier of its own.", "Use its own logits(store, classifier)."
        )
    for one in parts:
        if one.fingerprint is not None and one.fingerprint != fingerprint:
            raise CorrectionError(
                f"the model that the correction was fitted on, {one.fingerprint}",
                f"{fingerprint}",
                "Fit the correction again on this model.",
            )


class _Batch:
    """The images of one call, as corrections read them: unit embeddings and their parts, [image embed].

    Its model was checked when the corrected model was made; it changes its fingerprint with its precision since.
    """

    fingerprint = None

    def __init__(self, vision: HookedVisionTransformer, f: Tensor, z: Mapping[int, Tensor]):
        self.vision, self.f, self.z = vision, f, z
        self.n_layers, self.n_heads = vision.cfg.n_layers, vision.cfg.n_heads

    @classmethod
    def of(cls, vision: HookedVisionTransformer, images: Tensor, layers: Sequence[int]) -> _Batch:
        if layers:
            parts = vision.residual_parts(images, layers=layers)
            return cls(vision, parts.embedding, dict(zip(layers, parts.z.unbind(1), strict=True)))
        f = vision(images)
        return cls(vision, f.to(torch.promote_types(f.dtype, torch.float32)), {})

    def __len__(self) -> int:
        return len(self.f)

    @cached_property
    def norm(self) -> Float[Tensor, "image 1"]:
        return self.f.norm(dim=-1, keepdim=True)

    @property
    def embedding(self) -> Float[Tensor, "image embed"]:
        return self.f / self.norm

    @cached_property
    def _basis(self) -> Any:
        return kept_basis(self.vision)

    def heads(self, layer: int, head: int) -> Float[Tensor, "image embed"]:
        if layer not in self.z:
            raise CorrectionError(
                f"The correction reads a head of layer {layer}, in which it names none.",
                "Its `edited` has to name the heads that it reads.",
            )
        return (self.z[layer][:, head].flatten(1) @ self._basis.of(layer, head).to(self.f)) / self.norm

    def subset(self, rows: Any) -> _Batch:
        chosen = torch.as_tensor(rows, device=self.f.device)
        return _Batch(self.vision, self.f[chosen], {layer: z[chosen] for layer, z in self.z.items()})
