"""Texts without the empty places behind them: a prompt of eight tokens in a context of 77 is a tenth of the work.

Under a causal mask a token sees only what stands before it, so nothing behind a text's end reaches the place that is
pooled: the embeddings are those of the whole context, up to rounding.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn


def without_padding(text: Any, tokens: Int[Tensor, "text context"]) -> tuple[Any, Int[Tensor, "text place"]]:
    """The text tower and its tokens, cut behind the end of the longest text.

    A tower that is not of open_clip's plain kind (a learned position for each place, a causal mask, the embedding taken
    at the highest token number) comes back as it is, with all of its tokens.

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
    short = copy.copy(text)
    # Narrowed views under the names that the tower reads.
    narrow = nn.Parameter(positions[:places], requires_grad=positions.requires_grad)
    short._parameters = text._parameters | {"positional_embedding": narrow}
    short._buffers = text._buffers | {"attn_mask": mask[:places, :places]}
    return short, tokens[:, :places]
