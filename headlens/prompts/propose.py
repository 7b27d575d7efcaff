"""Proposing discriminative pairs without a language model, from a text bank.

Steps:

1. A pair of texts a, b of one category gives the direction d = unit(e_a − e_b), e the text embeddings as they come.
2. With C the class embeddings less their mean, and S the attribute's prototypes less theirs,

       separation = ‖C d‖ / ‖C‖,   spurious = ‖S d‖ / ‖S‖        (Frobenius norms)

   which for two classes, or two values, is |cos| of d with their difference. Score: separation − weight · spurious.
3. Pairs are taken by their score, best first, while it is above zero. A pair is passed over where one of its texts was
   taken already, or where less than `novelty` of its direction lies outside the span of those taken: injection uses an
   orthonormal basis of the directions, and the rest of such a pair would be noise.

Ours; the publications take the pairs from a language model (RoboShot: Adila et al. 2024, arXiv 2309.04344).
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from headlens.errors import TaskError
from headlens.prompts.bank import TextBank
from headlens.prompts.encode import EncodeText
from headlens.prompts.pairs import TextPairs

_BATCH = 256


@dataclass(frozen=True)
class ProposedPairs:
    """Pairs of texts, best first, and why they were taken.

    Attributes:
        pairs: the texts; for two classes the first text of a pair leans to the second class, as in the sets that come
            with headlens.
        categories: the category of each pair in the bank.
        separation: how much each pair tells the classes apart, from 0 to 1.
        spurious: how much it tells the attribute's values apart, from 0 to 1.
        weight: what the attribute counted in the score.
    """

    pairs: TextPairs
    categories: tuple[str, ...]
    separation: tuple[float, ...]
    spurious: tuple[float, ...]
    weight: float

    def table(self) -> pd.DataFrame:
        """One row a pair: `first`, `second`, `category`, `separation`, `spurious`."""
        frame = pd.DataFrame(self.pairs, columns=["first", "second"])
        return frame.assign(category=self.categories, separation=self.separation, spurious=self.spurious)

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format)


def propose_pairs(
    bank: TextBank,
    encode_text: EncodeText,
    classes: Float[Tensor, "class embed"],
    attribute: Float[Tensor, "value embed"],
    count: int = 8,
    *,
    weight: float | int = 1.0,
    novelty: float | int = 0.5,
) -> ProposedPairs:
    """The pairs of a bank that best tell the classes apart and least the attribute's values.

    Args:
        bank: the texts; see `headlens.prompts.default_bank`, and `TextBank.within` for a text tower of few words.
        encode_text: `clip.encode_text`.
        classes: the class embeddings, `task.classifier(encode_text)`.
        attribute: the attribute's prototypes, `attribute.prototypes(encode_text)`.
        count: how many pairs at most.
        weight: what the attribute counts against the classes.
        novelty: the length of a pair's direction that must lie outside the span of those taken, above 0 and at most 1.

    Raises:
        TaskError: for one class or value, widths that disagree, numbers that are not finite, a count, weight or novelty
            out of its range, and a bank of which no pair scores above zero.

    Limits: a pair that agrees with the class names is not thereby a true feature: what always comes with a class in
    the model's texts looks like one. Read the pairs before using them.
    """
    if count < 1 or not weight >= 0 or not 0 < novelty <= 1:
        raise TaskError(
            "a count of one or more, a weight of zero or more and a novelty above 0 and at most 1",
            f"{count}, {weight} and {novelty}",
            "Leave the defaults, for example.",
        )
    texts = torch.cat([encode_text(list(bank.texts[i : i + _BATCH])).detach() for i in range(0, len(bank), _BATCH)])
    c, s = _centred(classes, texts, "classes"), _centred(attribute, texts, "values of the attribute")
    first, second = _same_category(bank)
    texts = texts.cpu().double()
    if not bool(torch.isfinite(texts).all()):
        raise TaskError("finite text embeddings", "NaN or infinite ones", "Check the text tower's weights.")
    # Every pair is reached through inner products of texts: differences of half a million pairs need not be stored.
    along_c, along_s = texts @ c.T, texts @ s.T
    squared = _differences_squared(texts, first, second)
    usable = squared > 1e-10 * texts.square().sum(dim=1).max()
    lengths = squared.clamp(min=1e-300).sqrt()
    separation = (along_c[first] - along_c[second]).norm(dim=1) / lengths / c.norm()
    spurious = (along_s[first] - along_s[second]).norm(dim=1) / lengths / s.norm()
    score = torch.where(usable, separation - weight * spurious, -torch.inf)
    chosen: list[int] = []
    basis = torch.zeros(0, texts.shape[1], dtype=torch.float64)
    for _ in range(count):
        inside = texts @ basis.T
        outside = squared - (inside[first] - inside[second]).square().sum(dim=1)
        best = int(torch.where(outside >= novelty**2 * squared, score, -torch.inf).argmax())
        if not float(score[best]) > 0 or not float(outside[best]) >= novelty**2 * float(squared[best]):
            break
        chosen.append(best)
        direction = texts[first[best]] - texts[second[best]]
        direction = direction - basis.T @ (basis @ direction)
        basis = torch.cat([basis, (direction / direction.norm())[None]])
        taken = torch.stack([first[best], second[best]])
        score[torch.isin(first, taken) | torch.isin(second, taken)] = -torch.inf
    if not chosen:
        raise TaskError(
            "a pair of texts that tells the classes apart better than the attribute's values",
            f"none among {len(first)} pairs of {len(bank)} texts",
            "Take a larger bank or a smaller weight, or write pairs by hand.",
        )
    pairs = []
    for number in chosen:
        a, b = int(first[number]), int(second[number])
        towards_last = float(along_c[a, -1] - along_c[b, -1]) >= 0
        pairs.append((bank.texts[a], bank.texts[b]) if towards_last else (bank.texts[b], bank.texts[a]))
    return ProposedPairs(
        pairs=pairs,
        categories=tuple(bank.categories[int(first[number])] for number in chosen),
        separation=tuple(float(separation[number]) for number in chosen),
        spurious=tuple(float(spurious[number]) for number in chosen),
        weight=float(weight),
    )


def _centred(rows: Float[Tensor, "row embed"], texts: Tensor, what: str) -> Float[Tensor, "row embed"]:
    if rows.ndim != 2 or len(rows) < 2 or rows.shape[-1] != texts.shape[-1] or not bool(torch.isfinite(rows).all()):
        raise TaskError(
            f"two {what} or more, finite, of width {texts.shape[-1]}",
            f"shape {list(rows.shape)}",
            "Encode them with the text tower that encodes the bank.",
        )
    rows = rows.detach().cpu().double()
    return rows - rows.mean(dim=0)


def _same_category(bank: TextBank) -> tuple[Tensor, Tensor]:
    """Every two texts of one category, as places in the bank."""
    firsts, seconds = [], []
    for category in bank.counts():
        members = torch.tensor([i for i, name in enumerate(bank.categories) if name == category])
        pairs = torch.combinations(members, 2)
        firsts.append(pairs[:, 0])
        seconds.append(pairs[:, 1])
    return torch.cat(firsts), torch.cat(seconds)


def _differences_squared(texts: Float[Tensor, "text embed"], first: Tensor, second: Tensor) -> Float[Tensor, "pair"]:
    squared = texts.square().sum(dim=1)
    inner = torch.cat(
        [
            einsum(texts[a], texts[b], "pair embed, pair embed -> pair")
            for a, b in zip(first.split(1 << 14), second.split(1 << 14), strict=True)
        ]
    )
    return squared[first] + squared[second] - 2 * inner
