"""The compact form of a decomposed embedding: all that its heads contribute, in the heads' own coordinates."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class HeadStates:
    """What every component contributes to the embeddings of some images, with the final LayerNorm's division done.

    With `basis` the tower's `HeadBasis`, f = Σ_lh z_lh B_lh + Σ_l mlps_l + stem + scale · bias + beta exactly. Class
    token and average pooling share the form: q runs over the pooled tokens, and a class-token tower pools one.

    Attributes:
        z: mean_q z_lh,q / σ_q, the vector that head (l, h) mixes from its values (value bias included).
        scale: mean_q 1/σ_q, which multiplies the output biases' contribution.
        shift: mean_q μ_q/σ_q, the residual's own mean on the same scale (constants='spread' alone needs it).
        mlps: the MLPs' contributions.
        stem: the contribution of the token embeddings.
        embedding: f, not normalised.

    All in float32 at least, in the units of f.
    """

    z: Float[Tensor, "image layer head d_head"]
    scale: Float[Tensor, "image"]
    shift: Float[Tensor, "image"]
    mlps: Float[Tensor, "image layer embed"]
    stem: Float[Tensor, "image embed"]
    embedding: Float[Tensor, "image embed"]

    def __len__(self) -> int:
        return self.z.shape[0]
