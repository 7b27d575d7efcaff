"""Pairs of texts that name one class and differ in the attribute alone, as Ortho-Cali asks for.

Chuang et al. 2023 (arXiv 2302.00070) write such prompts by hand for every data set. Here they are made from what an
audit knows, a class prompt and the words of an attribute prompt; a file of one's own says them better.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from headlens.errors import TaskError
from headlens.prompts.attribute import Attribute
from headlens.prompts.pairs import TextPairs, check_pairs
from headlens.prompts.task import ZeroShotTask


def cross_pairs(
    task: ZeroShotTask,
    attribute: Attribute,
    join: str = "{class_prompt}, {value}",
    values: Sequence[str] | None = None,
) -> TextPairs:
    """For every class, every two values of the attribute: (class with one value, class with the other).

    Args:
        task: its first template makes the class prompts.
        attribute: its first prompts describe the values. What such a prompt has in common with the opening of the class
            prompt is left out: "a photo of a nurse" and "a photo of a woman" give "a photo of a nurse, a woman".
        join: how a class prompt and the words for a value become one text.
        values: words for the attribute's values in its order, such as ["on land", "on water"], in place of its prompts.

    Returns:
        classes · values · (values − 1) / 2 pairs, class by class.

    Raises:
        TaskError: for a template without both parts, and where there are not as many words as values.
    """
    if join.count("{class_prompt}") != 1 or join.count("{value}") != 1:
        raise TaskError(
            "a template with {class_prompt} and {value}, each once", repr(join), "Write '{class_prompt} {value}', say."
        )
    words = attribute.first_prompts() if values is None else tuple(values)
    if len(words) != len(attribute.value_names):
        raise TaskError(
            f"words for each of {len(attribute.value_names)} values of {attribute.name!r}",
            f"{len(words)}",
            f"Give them in this order: {', '.join(attribute.value_names)}.",
        )
    pairs = []
    for prompt in task.prompts():
        said = [_rest(word, prompt) for word in words] if values is None else words
        crossed = [join.replace("{class_prompt}", prompt).replace("{value}", word) for word in said]
        pairs += list(combinations(crossed, 2))
    return check_pairs(pairs, "the crossed prompts")


def _rest(text: str, opening: str) -> str:
    """The text without the words that it begins with like `opening`, but with its article; at least its last word."""
    words, others = text.split(), opening.split()
    shared = 0
    while shared < min(len(words) - 1, len(others)) and words[shared].casefold() == others[shared].casefold():
        shared += 1
    if shared and words[shared - 1].casefold() in ("a", "an", "the"):
        shared -= 1
    return " ".join(words[shared:])
