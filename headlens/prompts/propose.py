"""Proposing discriminative pairs of texts: from a text bank, or by any chat model that the user has.

From a bank (`propose_pairs`), without a language model:

1. A pair of texts a, b of one category gives the direction d = unit(e_a − e_b), e the text embeddings as they come.
2. With C the class embeddings minus their mean, and S the attribute's prototypes minus theirs,

       separation = ‖C d‖ / ‖C‖,   spurious = ‖S d‖ / ‖S‖        (Frobenius norms)

   which for two classes, or two values, is |cos| of d with their difference. Score: separation − weight · spurious.
3. Pairs are taken by their score, best first, while it is above zero. A pair is passed over where one of its texts was
   taken already, or where less than `novelty` of its direction lies outside the span of those taken: injection uses an
   orthonormal basis of the directions, and the rest of such a pair would be noise.

This is ours; the publications take the pairs from a language model (RoboShot: Adila et al. 2024, arXiv 2309.04344).

By a chat model (`ask_pairs`), through a function from text to text: a question is put together from the class names and
the attribute; the answer is read as JSON, or as one pair a line; objections to what cannot be used go into the next
question. The question is ours. headlens itself sends nothing anywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from headlens.errors import TaskError
from headlens.prompts.bank import TextBank, same_text
from headlens.prompts.pairs import TextPairs
from headlens.prompts.task import Attribute, EncodeText, ZeroShotTask

Ask = Callable[[str], str]

_BATCH = 256
_WORD = re.compile(r"[a-z0-9]+")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_BETWEEN = re.compile(r"\s*(?:\||\t|—|–|->|→|;| - | vs\.? )\s*")


@dataclass(frozen=True)
class ProposedPairs:
    """Pairs of texts, best first, and their scores.

    Attributes:
        pairs: the texts; for two classes the first text of a pair leans to the second class, as in the sets that come
            with headlens.
        categories: the category of each pair in the bank.
        separation: how much each pair distinguishes the classes, from 0 to 1.
        spurious: how much it distinguishes the attribute's values, from 0 to 1.
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
    """The pairs of a bank that best distinguish the classes and least the attribute's values.

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
            f"The count is {count}, the weight {weight} and the novelty {novelty}.",
            "Give a count of one or more, a weight of zero or more, and a novelty above 0 and at most 1.",
        )
    texts = torch.cat([encode_text(list(bank.texts[i : i + _BATCH])).detach() for i in range(0, len(bank), _BATCH)])
    c, s = _centred(classes, texts, "classes"), _centred(attribute, texts, "values of the attribute")
    first, second = _same_category(bank)
    texts = texts.cpu().double()
    if not bool(torch.isfinite(texts).all()):
        raise TaskError("Text embeddings are NaN or infinite.", "Check the text tower's weights.")
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
            f"None of {len(first)} pairs of {len(bank)} texts distinguishes the classes better than the attribute's "
            "values.",
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
            f"The {what} are not two finite rows or more of width {texts.shape[-1]}: shape {list(rows.shape)}.",
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


def question(task: ZeroShotTask, attribute: Attribute, count: int = 8) -> str:
    """What a chat model is asked: for texts that distinguish the classes whatever the attribute is."""
    names = " and ".join(repr(name) for name in task.classes) if len(task.classes) < 4 else ", ".join(task.classes)
    values = ", ".join(attribute.value_names)
    return (
        f"Pictures are to be sorted into these classes: {names}.\n"
        f"The sorting must not depend on the attribute '{attribute.name}' (values: {values}).\n"
        f"Write {count} pairs of short captions. The first caption of a pair describes something that is seen in one "
        "class, the second the corresponding thing in another class, and both have to hold whatever the attribute is: "
        "name body parts, shapes, materials or tools rather than surroundings or people.\n"
        f"Never mention {attribute.name} or its values. At most 12 words a caption, lower case.\n"
        'Answer with JSON alone: [["first caption", "second caption"], …].'
    )


def ask_pairs(
    ask: Ask,
    task: ZeroShotTask,
    attribute: Attribute,
    count: int = 8,
    *,
    avoid: Sequence[str] = (),
    attempts: int = 3,
    longest: int = 20,
) -> TextPairs:
    """Pairs that a chat model proposes, checked.

    A pair is used where it is two different texts of at most `longest` words, was not given before in either order, and
    mentions none of the attribute's values: their names, the words of their prompts that not all values share, and
    `avoid`; words of the class names are allowed.

    Args:
        ask: from a question to an answer, such as a call of an API that you have.
        task: the classes.
        attribute: what the pairs must not speak of.
        count: how many pairs are asked for; fewer may come back, never none.
        avoid: more words that must not occur.
        attempts: how often it is asked at most; the next question names what was wrong.
        longest: words a text.

    Raises:
        TaskError: where no usable pair came in all attempts, with the last objections, and for an answer that is not
            text.

    Limits: whether a feature is true of the classes is what the chat model says. Read the pairs before using them.
    """
    if count < 1 or attempts < 1:
        raise TaskError(f"The count is {count}, the attempts are {attempts}.", "Give one or more of each.")
    wanted = question(task, attribute, count)
    forbidden = attribute_words(task, attribute) | {word.casefold() for word in avoid}
    found: TextPairs = []
    objections: list[str] = []
    for _ in range(attempts):
        answer = ask(wanted if not objections else wanted + "\nYour last answer could not be used: " + objections[0])
        if not isinstance(answer, str):
            raise TaskError(f"The answer is a {type(answer).__name__}.", "Return the reply's text from `ask`.")
        answered, objections = read_pairs(answer), []
        for pair in answered:
            objection = _objection(pair, found, forbidden, longest)
            if objection is None:
                found.append((pair[0], pair[1]))
            else:
                objections.append(objection)
        if not answered:
            objections = ["no pair of captions was found in it; answer with a JSON list of two-element lists."]
        if len(found) >= count:
            break
    if not found:
        raise TaskError(
            f"{attempts} answers hold no pair of captions that can be used: {objections[0]}",
            "Ask another model, write pairs by hand, or propose them from a text bank: headlens.prompts.propose_pairs.",
        )
    return found[:count]


def read_pairs(answer: str) -> list[list[str]]:
    """Every pair in an answer: the first JSON list of lists in it, or one pair a line, parted by | or a dash."""
    for start in (found.start() for found in re.finditer(r"\[", answer)):
        try:
            content, _ = json.JSONDecoder().raw_decode(answer[start:])
        except (ValueError, RecursionError):
            continue
        pairs = [_texts(item) for item in content]
        if content and all(pair is not None for pair in pairs):
            return [pair for pair in pairs if pair is not None]
    lines = []
    for line in answer.splitlines():
        parts = [part.strip().strip("\"'`*") for part in _BETWEEN.split(_BULLET.sub("", line).strip().strip("|"))]
        if len(parts) == 2 and all(parts) and not set("".join(parts)) <= set("-: "):
            lines.append(parts)
    return lines


def attribute_words(task: ZeroShotTask, attribute: Attribute) -> set[str]:
    """The words that distinguish the attribute's values, without those of the class names."""
    of_values = [
        {word for text in (name, *prompts) for word in _words(text)} for name, prompts in attribute.values.items()
    ]
    shared = set.intersection(*of_values)
    return set.union(*of_values) - shared - {word for name in task.classes for word in _words(name)}


def _texts(item: object) -> list[str] | None:
    if isinstance(item, dict):
        item = list(item.values())
    if isinstance(item, list) and len(item) == 2 and all(isinstance(text, str) for text in item):
        return [" ".join(text.split()) for text in item]
    return None


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _objection(pair: Sequence[str], found: TextPairs, forbidden: set[str], longest: int) -> str | None:
    shown = f"{pair[0]!r} / {pair[1]!r}"
    if not all(_words(text) for text in pair) or same_text(pair[0]) == same_text(pair[1]):
        return f"{shown} is not two different captions."
    if max(len(_words(text)) for text in pair) > longest:
        return f"{shown} has more than {longest} words."
    named = {word for text in pair for word in _words(text)} & forbidden
    if named:
        return f"{shown} mentions {', '.join(sorted(named))}, which belongs to the attribute."
    if {same_text(text) for text in pair} in [{same_text(text) for text in other} for other in found]:
        return f"{shown} was given before."
    return None
