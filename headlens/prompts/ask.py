"""Proposing discriminative pairs by any chat model that the user has, through a function from text to text.

Steps: a question is put together from the class names and the attribute; the answer is read as JSON, or as one pair a
line; what cannot be used is said back, and the question asked again.

The idea of asking a language model is RoboShot's (Adila et al. 2024, arXiv 2309.04344); the question is ours. headlens
itself sends nothing anywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from headlens.errors import TaskError
from headlens.prompts.attribute import Attribute
from headlens.prompts.bank import same_text
from headlens.prompts.pairs import TextPairs
from headlens.prompts.task import ZeroShotTask

Ask = Callable[[str], str]

_WORD = re.compile(r"[a-z0-9]+")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_BETWEEN = re.compile(r"\s*(?:\||\t|—|–|->|→|;| - | vs\.? )\s*")


def question(task: ZeroShotTask, attribute: Attribute, count: int = 8) -> str:
    """What a chat model is asked: for texts that tell the classes apart whatever the attribute is."""
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
        attempts: how often it is asked at most; what was wrong is said each time.
        longest: words a text.

    Raises:
        TaskError: where no usable pair came in all attempts, with the last objections, and for an answer that is not
            text.

    Limits: whether a feature is true of the classes is the chat model's word. Read the pairs before using them.
    """
    if count < 1 or attempts < 1:
        raise TaskError("a count and attempts of one or more", f"{count} and {attempts}", "Leave the defaults.")
    wanted = question(task, attribute, count)
    forbidden = attribute_words(task, attribute) | {word.casefold() for word in avoid}
    kept: TextPairs = []
    objections: list[str] = []
    for _ in range(attempts):
        answer = ask(wanted if not objections else wanted + "\nYour last answer could not be used: " + objections[0])
        if not isinstance(answer, str):
            raise TaskError("an answer as text", f"a {type(answer).__name__}", "Return the reply's text from `ask`.")
        found, objections = read_pairs(answer), []
        for pair in found:
            objection = _objection(pair, kept, forbidden, longest)
            if objection is None:
                kept.append((pair[0], pair[1]))
            else:
                objections.append(objection)
        if not found:
            objections = ["no pair of captions was found in it; answer with a JSON list of two-element lists."]
        if len(kept) >= count:
            break
    if not kept:
        raise TaskError(
            f"pairs of captions for {', '.join(task.classes)}",
            f"none that can be used in {attempts} answers: {objections[0]}",
            "Ask another model, write pairs by hand, or propose them from a text bank: headlens.prompts.propose_pairs.",
        )
    return kept[:count]


def read_pairs(answer: str) -> list[list[str]]:
    """Every pair in an answer: the first JSON list of lists in it, or one pair a line, parted by | or a dash."""
    for start in (found.start() for found in re.finditer(r"\[", answer)):
        try:
            content, _ = json.JSONDecoder().raw_decode(answer[start:])
        except json.JSONDecodeError:
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
    """The words that tell the attribute's values apart, less those of the class names."""
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


def _objection(pair: Sequence[str], kept: TextPairs, forbidden: set[str], longest: int) -> str | None:
    told = f"{pair[0]!r} / {pair[1]!r}"
    if not all(_words(text) for text in pair) or same_text(pair[0]) == same_text(pair[1]):
        return f"{told} is not two different captions."
    if max(len(_words(text)) for text in pair) > longest:
        return f"{told} has more than {longest} words."
    said = {word for text in pair for word in _words(text)} & forbidden
    if said:
        return f"{told} mentions {', '.join(sorted(said))}, which belongs to the attribute."
    if {same_text(text) for text in pair} in [{same_text(text) for text in other} for other in kept]:
        return f"{told} was given before."
    return None
