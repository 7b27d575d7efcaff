"""Knowledge injection: salient heads pushed towards the features that truly tell the classes apart.

Follows Yeo et al. 2025 (arXiv 2505.17425): on the contribution x of each salient head, `headlens.correct.inject` with
pairs of texts such as ("a bird with webbed feet", "a bird with talons").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jaxtyping import Float
from torch import Tensor

from headlens.correct.directions import basis_of_pairs, inject
from headlens.correct.head_correction import HeadCorrection, parse_heads
from headlens.correct.targets import check_width, detached
from headlens.heads import HeadId


class KnowledgeInjection(HeadCorrection):
    """contribution ← inject(contribution, pairs), for each of `heads`. It needs no fit.

    Args:
        heads: the heads to inject, usually the salient ones.
        pairs: text embeddings, not normalised: `clip.encode_text` as it comes, or `headlens.prompts.encode_pairs`.

    Raises:
        CorrectionError: as `inject` does for the pairs; on `apply`, for contributions of another width.

    Limits: each injected head ends at norm one, whatever it was before; that is the published operation. In the store's
    convention, where the whole embedding has norm one, an injected head can so outweigh everything else.
    """

    name = "knowledge-injection"

    def __init__(self, heads: Iterable[tuple[int, int]], pairs: Float[Tensor, "pair 2 embed"]):
        super().__init__(heads)
        basis_of_pairs(pairs)
        self.pairs = detached(pairs)

    @property
    def fitted(self) -> bool:
        """Always."""
        return True

    def edit(self, head: HeadId, x: Float[Tensor, "image embed"]) -> Float[Tensor, "image embed"]:
        """The injected contribution."""
        check_width("pairs", self.pairs.shape[-1], x)
        return inject(x, self.pairs)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Heads and pairs."""
        return self._values(), {"pairs": self.pairs}

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Tensor]) -> KnowledgeInjection:
        """The inverse of `state`."""
        return cls(parse_heads(values), arrays["pairs"])._restore(values)
