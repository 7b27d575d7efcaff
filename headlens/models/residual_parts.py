"""One forward pass that keeps what every component wrote to the tokens that are read, and nothing else.

Steps:
1. Run the blocks as `forward` does. In each, keep the heads' z and the MLP's output at the tokens that the embedding is
   read off. With class-token pooling the last block needs the query, output and MLP of one token only, and then neither
   keys nor values as such: this is why the head states of all heads cost less than a plain forward pass.
2. Read μ and σ of the final LayerNorm off the last residual, and the attention that a pool pays to it, and weight every
   kept summand by both: w_pq = A_pq/σ_q for pool head p and token q (without an attention pool there is one p, and A is
   1 for the class token or 1/q for the average). A norm inside or behind attention divides z by its own σ before that.

With all of these held at their measured values the map from residual to embedding is affine, so the kept summands add
up to the embedding exactly (Gandelsman, Efros, Steinhardt 2024, arXiv 2310.05916, for the class token).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from headlens.models.block import Block
from headlens.models.tower import Tower

#: Bytes of summands that towers whose weights are known at the end alone hold for a batch of images at a time.
HELD_BYTES = 96 << 20


@dataclass(frozen=True)
class ResidualParts:
    """The summands of the pooled residual, each as Σ_q w_pq x_q, for every head p of the pool (one without a pool).

    Attributes:
        z: the heads' mixed values, before W_O, divided by what norms between them and the residual divide by; of every
            layer, or of those that were asked for.
        mlps: the MLPs' outputs; no layer's where some layers' heads were asked for.
        stem: the residual stream before the first block.
        scale: what biases are multiplied by, see `HeadStates.scale`.
        shift: Σ_q w_pq μ_q, with zeros for the other sources of `scale`.
        pool: what the MLP inside an attention pool adds, before W_P; zeros elsewhere.
        embedding: the tower's output f.
        tokens: per token, for every layer, the weights Σ_q w_pq A[q, n] and the values v_n that they multiply; None
            unless asked for. They are factors: their product is as large as image × layer × head × pool × token ×
            d_head numbers.

    All in float32 at least.
    """

    z: Float[Tensor, "image layer head pool d_head"]
    mlps: Float[Tensor, "image mlp pool d_model"]
    stem: Float[Tensor, "image pool d_model"]
    scale: Float[Tensor, "image source"]
    shift: Float[Tensor, "image source"]
    pool: Float[Tensor, "image d_pooled"]
    embedding: Float[Tensor, "image embed"]
    tokens: tuple[Float[Tensor, "image layer head pool token"], Float[Tensor, "image layer head token d_head"]] | None

    @property
    def token_z(self) -> Float[Tensor, "image layer head token pool d_head"]:
        """z by the token that the values come from; summed over tokens it is z."""
        assert self.tokens is not None
        weights, values = self.tokens
        return weights.transpose(3, 4).unsqueeze(-1) * values.unsqueeze(-2)


@dataclass(frozen=True)
class _Read:
    """What reading the last residual gives: everything that is held at its measured value, and the embedding."""

    weight: Float[Tensor, "image pool query"]
    mean: Float[Tensor, "image query"]
    behind: Float[Tensor, "image"] | None
    pool: Float[Tensor, "image d_pooled"]
    embedding: Float[Tensor, "image embed"]


def images_at_once(vision: Tower, layers: Collection[int] | None = None) -> int | None:
    """How many images a tower runs together here, so that what it holds to the end stays small; None for any number."""
    cfg = vision.cfg
    if cfg.pool == "tok" or (cfg.pool == "avg" and cfg.ln_after_pool):
        return None
    size = torch.finfo(vision.dtype).bits // 8
    z, mlp = cfg.n_heads * cfg.d_head, cfg.d_model
    held = (cfg.n_layers * (z + mlp) if layers is None else len(layers) * z) * cfg.n_tokens * size
    return max(1, HELD_BYTES // held)


def residual_parts(
    vision: Tower,
    images: Float[Tensor, "image channel height width"],
    per_token: bool = False,
    layers: Collection[int] | None = None,
) -> ResidualParts:
    """Run the tower once and keep the summands of what it reads.

    With `layers`, z of these layers alone is kept, in ascending order, and nothing of an MLP: all that a correction of
    their heads needs, at the cost of a plain forward pass.

    Hooks do not fire here: the last block is computed for the pooled token alone. `vision.head_states` refuses
    to run while any are set.

    Memory: with an attention pool, or average pooling *after* the final LayerNorm's division (`pool="avg"`, not
    `ln_after_pool`), every token has its own weight, known only at the end, and z and MLP outputs of every token are
    held until then: the images then go through in batches that hold no more than `HELD_BYTES`.
    """
    at_once = images_at_once(vision, layers)
    if at_once is None or len(images) <= at_once:
        return _parts(vision, images, per_token, layers)
    batches = [_parts(vision, batch, per_token, layers) for batch in images.split(at_once)]
    joined = {
        name: torch.cat([getattr(batch, name) for batch in batches])
        for name in ("z", "mlps", "stem", "scale", "shift", "pool", "embedding")
    }
    tokens = None
    if per_token:
        weights, values = (torch.cat(parts) for parts in zip(*(b.tokens for b in batches if b.tokens), strict=True))
        tokens = (weights, values)
    return ResidualParts(**joined, tokens=tokens)


def _parts(vision: Tower, images: Tensor, per_token: bool, layers: Collection[int] | None) -> ResidualParts:
    cfg = vision.cfg
    class_token = cfg.pool == "tok"

    def read(x: Tensor, axis: int = 1) -> Tensor:
        """The tokens that the embedding is read off; already averaged where one σ serves them all."""
        if class_token:
            # A copy, so that the whole activation can be freed.
            return x.narrow(axis, 0, 1).clone()
        first = vision.first_read
        x = x.narrow(axis, first, x.shape[axis] - first) if first else x
        return x.mean(axis, keepdim=True) if cfg.ln_after_pool else x

    resid = vision.embed(images)
    stem = read(resid) if cfg.residual else resid.new_zeros(len(resid), 1, cfg.d_embed)
    zs, mlps, tokens, biases = [], [], [], []
    for index, block in enumerate(vision.layers):
        only_one = class_token and index == cfg.n_layers - 1
        kept = layers is None or index in layers
        # A function of its own, so that queries, keys and values are gone before the MLP needs its memory.
        z, by_token = _attend(block, resid, only_one, class_token, per_token)
        divisor, bias_divisor = block.divisors(z) if kept else (None, None)
        added = block.attn_out(z)
        if divisor is not None:
            z = z / divisor[..., None, None].to(z.dtype)
        if bias_divisor is not None:
            biases.append(read(bias_divisor))
        if kept:
            zs.append(read(z))
        del z
        resid = (resid[:, :1] if only_one else resid) + added if cfg.residual else added
        if cfg.residual:
            added = block.mlp_out(resid)
            resid = resid + added
            if layers is None:
                mlps.append(read(added))
        if by_token is not None:
            pattern, v = by_token
            if divisor is not None:
                pattern = pattern / divisor[:, None, : pattern.shape[2], None].to(pattern.dtype)
            tokens.append((pattern if class_token else read(pattern, axis=2), v))
        del added

    final = _read_out(vision, read(resid))
    weight = final.weight
    wide = weight.dtype

    def weighted(x: Tensor) -> Tensor:
        return einsum(x.to(wide), weight, "image query ..., image pool query -> image pool ...")

    by_token = None
    if per_token:
        weights = [
            einsum(a.to(wide), weight, "image h query key, image pool query -> image h pool key") for a, _ in tokens
        ]
        by_token = torch.stack(weights, 1), torch.stack([v.to(wide).transpose(1, 2) for _, v in tokens], 1)
    scale, shift = weight.sum(2), (weight * final.mean[:, None]).sum(2)
    if biases:
        scale = torch.cat([scale, *(weighted(1 / divisor.to(wide)) for divisor in biases)], dim=1)
    if final.behind is not None:
        scale = torch.cat([scale, final.behind[:, None]], dim=1)
    n_mlps = cfg.n_layers if layers is None else 0  # a tower without a residual stream has layers, and no MLP in them
    empty = weight.new_zeros(len(images), n_mlps, cfg.n_pool_heads, stem.shape[-1])
    return ResidualParts(
        z=torch.stack([weighted(z) for z in zs], dim=1).transpose(2, 3),
        mlps=torch.stack([weighted(m) for m in mlps], dim=1) if mlps else empty,
        stem=weighted(stem),
        scale=scale,
        shift=torch.nn.functional.pad(shift, (0, scale.shape[1] - shift.shape[1])),
        pool=final.pool,
        embedding=final.embedding,
        tokens=by_token,
    )


def _read_out(vision: Tower, last: Float[Tensor, "image query d_model"]) -> _Read:
    """Everything between the last residual, at the tokens that are read, and the embedding."""
    pool = vision.pool
    if vision.ln_final is None:
        wide = torch.promote_types(last.dtype, torch.float32)
        mean, sigma = last.new_zeros(last.shape[:2], dtype=wide), last.new_ones(last.shape[:2], dtype=wide)
        normalized = last
    else:
        mean, sigma = vision.ln_final.statistics(last)
        normalized = vision.ln_final(last)
    if pool is None:
        pooled = normalized.mean(1)
        weight = (1 / (sigma * last.shape[1])).unsqueeze(1)
        zeros = weight.new_zeros(len(last), pooled.shape[-1])
        return _Read(weight, mean, None, zeros, vision.project(pooled).to(weight.dtype))
    attention, attended = pool.held(normalized)
    weight, behind = attention.to(sigma.dtype) / sigma[:, None], None
    if pool.ln_post is not None:
        behind = 1 / pool.ln_post.statistics(attended)[1]
        weight = weight * behind[:, None, None]
    pooled, added = pool.behind(attended[:, None])
    extra = weight.new_zeros(pooled[:, 0].shape) if added is None else added[:, 0].to(weight.dtype)
    return _Read(weight, mean, behind, extra, vision.project(pooled[:, 0]).to(weight.dtype))


def _attend(
    block: Block, resid: Float[Tensor, "image token d_model"], only_one: bool, class_token: bool, per_token: bool
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """z of every query, or of the class token's alone; per token also the attention that counts, and the values."""
    normalized = block.attn_in(resid)
    queries = normalized[:, :1] if only_one else normalized
    if not per_token and queries.shape[1] == 1:
        return block.attn.mix_from_one(queries, normalized), None
    q, k, v = block.attn.qkv(queries, normalized)
    z = block.attn.mix(q, k, v)
    return z, (block.attn.pattern(q[:, :1] if class_token else q, k), v) if per_token else None
