"""The compact form of a decomposed embedding: all that its heads contribute, in the heads' own coordinates."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class HeadStates:
    """What every component contributes to the embeddings of some images, with all that norms divide by done.

    With `basis` the tower's `HeadBasis`, f = Σ_lh z_lh B_lh + Σ_l mlps_l + stem + pool + scale · bias + beta exactly.
    All ways of pooling share the form. w_pq is the weight of token q for head p of the pool: 1/σ_q for the class token,
    its share of the average under average pooling, A_pq/σ_q under attention pooling.

    Attributes:
        z: Σ_q w_pq z_lh,q for every p, side by side, where z_lh,q is what head (l, h) mixes from its values (value bias
            included); or, where that is narrower, the head's contribution itself.
        scale: what biases are multiplied by, for each of their sources: Σ_q w_pq for every p; under post-norm then
            the same with the norm's own 1/σ, layer by layer; with a norm behind the pool, last, its 1/σ.
        shift: Σ_q w_pq μ_q, the residual's own mean on the same scale (constants='spread' alone needs it).
        mlps: the MLPs' contributions.
        stem: the contribution of the token embeddings.
        pool: the contribution of the MLP inside an attention pool; zeros elsewhere.
        embedding: f, not normalised.

    All in float32 at least, in the units of f.
    """

    z: Float[Tensor, "image layer head d_state"]
    scale: Float[Tensor, "image source"]
    shift: Float[Tensor, "image source"]
    mlps: Float[Tensor, "image layer embed"]
    stem: Float[Tensor, "image embed"]
    pool: Float[Tensor, "image embed"]
    embedding: Float[Tensor, "image embed"]

    def __len__(self) -> int:
        return self.z.shape[0]
