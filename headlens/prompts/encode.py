"""From prompts to directions: the mean over an entry's prompts, then unit norm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from headlens.errors import TaskError

EncodeText = Callable[[list[str]], Tensor]


def directions(
    entries: Sequence[tuple[str, Sequence[str]]], encode_text: EncodeText, what: str, unit: bool = True
) -> Float[Tensor, "entry embed"]:
    """One row for each (name, prompts): the mean of the prompts' embeddings, of norm one unless `unit` is off.

    Raises:
        TaskError: for embeddings that are not [text embed] or not finite, and for two entries whose directions
            coincide, which no image could then tell apart.
    """
    texts = [prompt for _, prompts in entries for prompt in prompts]
    encoded = encode_text(texts)
    if encoded.ndim != 2 or encoded.shape[0] != len(texts):
        raise TaskError(
            f"{len(texts)} embeddings of [text embed]", f"shape {tuple(encoded.shape)}", "Pass clip.encode_text."
        )
    if not bool(torch.isfinite(encoded).all()):
        raise TaskError("finite text embeddings", "NaN or infinite ones", "Check the text tower's weights.")
    means = torch.stack([part.mean(dim=0) for part in encoded.split([len(prompts) for _, prompts in entries])])
    unit_rows = normalize(means, dim=1)
    closeness = unit_rows.float() @ unit_rows.float().T
    closeness.fill_diagonal_(-1.0)
    if float(closeness.max()) > 1 - 1e-6:
        first, second = divmod(int(closeness.argmax()), len(entries))
        raise TaskError(
            f"{what} with directions of their own",
            f"{entries[first][0]!r} and {entries[second][0]!r}, which the text tower does not tell apart",
            "Reword one of them; the tokenizer may drop what is different about them.",
        )
    return unit_rows if unit else means


def check_prompts(name: str, prompts: Sequence[str]) -> tuple[str, ...]:
    """The prompts of one entry. Raises `TaskError` where there is none, or one is empty."""
    if not prompts or not all(isinstance(p, str) and p.strip() for p in prompts):
        raise TaskError(f"prompts of at least one word for {name!r}", f"{list(prompts)!r}", "Write a prompt.")
    return tuple(prompts)
