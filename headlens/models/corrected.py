"""A correction in use: a model with open_clip's own interface, whose image embeddings are corrected.

A correction edits parts of the unit embedding f/‖f‖. `encode_image` gives ‖f‖ times the edited unit embedding, and
under `normalize=True` it normalises again, as open_clip does. Each image's ranking of classes is then an audit's; the
ranking of *images* under one text need not be under `normalize=True`, since the edit changes their lengths.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from headlens.correct.base import Correction
from headlens.correct.calibration import OrthoCali
from headlens.correct.compose import ByImage
from headlens.correct.probes import Probe
from headlens.correct.views import embedding_of
from headlens.errors import CorrectionError, ModelWarning
from headlens.models.vision_transformer import HookedVisionTransformer
from headlens.states.kept_basis import kept_basis


class CorrectedCLIP(nn.Module):
    """open_clip's `encode_image`, `encode_text`, `forward`, `logit_scale` and `logit_bias`, with images corrected.

    Args:
        vision: the tower.
        text: the text side, an open_clip model without its vision tower; None for a tower alone.
        correction: fitted on this tower.

    Raises:
        CorrectionError: for a correction that is not fitted, depends on other images, or is a probe, whose scores are
            no embedding; for one that changes the classifier image by image.
    """

    def __init__(self, vision: HookedVisionTransformer, text: Any, correction: Correction):
        super().__init__()
        _check(correction)
        self.vision, self.text, self.correction = vision, text, correction
        if correction.changes_classifier:
            warnings.warn(
                "The correction changes the classifier: pass class embeddings through `.classifier(rows)`, or nothing "
                "of that part is corrected.",
                ModelWarning,
                stacklevel=3,
            )
        self.eval()

    @property
    def logit_scale(self) -> Any:
        """The text side's parameter: the logarithm of what cosines are multiplied by."""
        return self.text.logit_scale

    @property
    def logit_bias(self) -> Any:
        """The text side's parameter, or None."""
        return getattr(self.text, "logit_bias", None)

    def encode_image(
        self, image: Float[Tensor, "image channel height width"], normalize: bool = False
    ) -> Float[Tensor, "image embed"]:
        """Corrected embeddings in one forward pass, without gradients.

        Raises:
            ModelError: while hooks are set on the tower, or for images of another size.
        """
        return self.encode_both(image, normalize)[1]

    @torch.no_grad()
    def encode_both(
        self, image: Float[Tensor, "image channel height width"], normalize: bool = False
    ) -> tuple[Float[Tensor, "image embed"], Float[Tensor, "image embed"]]:
        """Plain and corrected embeddings, of one forward pass; raises as `encode_image`."""
        batch = _Batch(self.vision, image.to(self.vision.device))
        edited, plain = embedding_of(self.correction.apply(batch)), batch.embedding
        if normalize:
            edited = F.normalize(edited, dim=-1)
        else:
            plain, edited = plain * batch.norm[:, None], edited * batch.norm[:, None]
        return plain.to(self.vision.dtype), edited.to(self.vision.dtype)

    def encode_text(self, text: Int[Tensor, "text context"], normalize: bool = False) -> Float[Tensor, "text embed"]:
        """The original model's embeddings of token ids; no correction changes them."""
        return self.text.encode_text(text, normalize=normalize)

    def classifier(self, rows: Float[Tensor, "class embed"]) -> Float[Tensor, "class embed"]:
        """Class embeddings as the correction leaves them: calibrated where it does that, else as they are."""
        for one in self.correction.walk():
            if isinstance(one, OrthoCali):
                rows = one.classifier(rows)
        return rows

    def forward(self, image: Tensor | None = None, text: Tensor | None = None) -> tuple[Tensor | None, ...]:
        """(unit image embeddings, unit text embeddings, scale), and the bias where there is one, as open_clip's."""
        images = None if image is None else self.encode_image(image, normalize=True)
        texts = None if text is None else self.encode_text(text, normalize=True)
        bias = self.logit_bias
        return (images, texts, self.logit_scale.exp(), *(() if bias is None else (bias,)))


class _Batch:
    """The head states of a batch, answering as a store does; a head is computed only when asked for.

    Args:
        vision: the tower.
        images: preprocessed.
    """

    def __init__(self, vision: HookedVisionTransformer, images: Tensor):
        parts = vision.residual_parts(images)
        self.n_layers, self.n_heads = vision.cfg.n_layers, vision.cfg.n_heads
        self.norm = parts.embedding.norm(dim=-1)
        self.z, self.embedding = parts.z, parts.embedding / self.norm[:, None]
        self._vision = vision

    @cached_property
    def _basis(self) -> Any:
        return kept_basis(self._vision)

    def heads(self, layer: int, head: int) -> Float[Tensor, "image embed"]:
        """The contribution of one head to the unit embedding."""
        return (self.z[:, layer, head].flatten(1) / self.norm[:, None]) @ self._basis.of(layer, head)

    def subset(self, rows: Any) -> _Batch:
        """Some of the images."""
        part = object.__new__(_Batch)
        where = torch.as_tensor(rows, device=self.norm.device)
        part.n_layers, part.n_heads, part._vision = self.n_layers, self.n_heads, self._vision
        part.norm, part.z, part.embedding = self.norm[where], self.z[where], self.embedding[where]
        return part


def _check(correction: Any) -> None:
    if not isinstance(correction, Correction):
        raise CorrectionError(
            f"A {type(correction).__name__} cannot be used inside a forward pass.",
            "Pass a fitted correction of hl.correct; a total edit is a set of hooks: clip.vision.hooks(…).",
        )
    if not correction.fitted:
        raise CorrectionError(f"{correction!r} is not fitted.", "Call .fit(store) first.")
    if correction.transductive:
        raise CorrectionError(
            f"{correction!r} makes an image's result depend on the other images.",
            "Fit it on a reference split: reference='split'.",
        )
    for one in correction.walk():
        if isinstance(one, Probe):
            raise CorrectionError(
                f"{one!r} is a probe: it scores classes, and leaves embeddings as they are.",
                "Leave it out of the correction, and put its weights behind encode_image.",
            )
        if isinstance(one, ByImage) and one.changes_classifier:
            raise CorrectionError(f"{one!r} changes the classifier image by image.", "Use one correction for all.")
