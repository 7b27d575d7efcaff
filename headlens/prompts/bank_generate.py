"""The generator of the text bank: readable sources, templates and lists of words, become texts.

    material:
      - say each way: [a bowl made of <material>, <a material> door]
        material: wood, oak, iron
      - gold leaf on a frame

gives 'a bowl made of wood', 'a wood door', 'a bowl made of oak', 'an oak door', and so on. No chance is involved: the
same sources give the same bank. `bank_sources/README.md` describes the notation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from headlens.errors import TaskError
from headlens.prompts.bank import TextBank, same_text

SOURCES = Path(__file__).parent / "bank_sources"

_SLOT = re.compile(r"<(an? )?([^<>]+)>")
_EACH_WAY, _IN_TURN = "say each way", "say in turn"
# Spelling and sound part ways: "a unicorn", "a ukulele", but "an hour", "an x-ray".
_SPELT_WITH_A_VOWEL = re.compile(r"one\b|once\b|uni(?![dmn])|us[ae]|usu|uten|util|ukulele|eu|ewe")
_SPELT_WITH_A_CONSONANT = re.compile(r"hour|honest|honou?r|heir|x-ray")


def article(word: str) -> str:
    """'a' or 'an', whichever the sound of `word` asks for."""
    lower = word.casefold()
    if _SPELT_WITH_A_CONSONANT.match(lower):
        return "an"
    return "an" if lower[:1] in tuple("aeiou") and not _SPELT_WITH_A_VOWEL.match(lower) else "a"


def generate(sources: Mapping[str, Sequence[Any]]) -> TextBank:
    """The bank of `sources`: categories in alphabetical order, the texts of each in the order of their source.

    A text that a category makes twice is kept once.

    Raises:
        TaskError: for a category without texts, an item that is neither a text nor templates with their words, a
            template without its words or words without a template, and a text of two categories.
    """
    owner: dict[str, tuple[str, str]] = {}
    for category in sorted(sources):
        for text in _texts(category, sources[category]):
            _, other = owner.setdefault(same_text(text), (text, category))
            if other != category:
                raise TaskError(
                    "every text in one category", f"{text!r} in {other!r} and {category!r}", "Reword one of them."
                )
    return TextBank(tuple(text for text, _ in owner.values()), tuple(category for _, category in owner.values()))


def read_sources(folder: str | Path = SOURCES) -> dict[str, list[Any]]:
    """The categories of every YAML file in `folder`.

    Raises:
        TaskError: for a folder without such files, a file that does not hold categories, or a category of two files.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where libyaml is there
    categories: dict[str, list[Any]] = {}
    for path in sorted(Path(folder).glob("*.yaml")):
        try:
            content = yaml.load(path.read_text(encoding="utf-8"), loader)
        except yaml.YAMLError as error:
            raise TaskError("a YAML file of categories", f"{path}: {error}", "Mend the file.") from error
        if not isinstance(content, dict) or not all(isinstance(items, list) for items in content.values()):
            raise TaskError("a list of items for each category", f"{path}", "See the README beside the bank's sources.")
        if again := categories.keys() & content.keys():
            raise TaskError("every category in one file", f"{sorted(again)} again in {path}", "Join the two lists.")
        categories |= content
    if not categories:
        raise TaskError("a folder with YAML files of categories", f"{folder}", "Check the path.")
    return categories


@cache
def default_bank() -> TextBank:
    """The bank that comes with headlens; `docs/text-bank.md` has its categories, their counts, and its limits."""
    return generate(read_sources())


def _texts(category: str, items: Sequence[Any]) -> Iterator[str]:
    if not items:
        raise TaskError(f"texts in category {category!r}", "none", "Write some, or leave the category out.")
    for item in items:
        if isinstance(item, str):
            if _SLOT.search(item):
                raise TaskError(f"words for the template in {category!r}", repr(item), f"Write it under '{_EACH_WAY}'.")
            yield " ".join(item.split())
        elif isinstance(item, dict):
            yield from _filled(category, item)
        else:
            # An unquoted 'no' or '7' is not a text to YAML.
            raise TaskError(f"a text or templates in {category!r}", repr(item), "Put a lone word into quotes.")


def _filled(category: str, item: dict[str, Any]) -> Iterator[str]:
    ways = [way for way in (_EACH_WAY, _IN_TURN) if way in item]
    lists = {slot: words for slot, words in item.items() if slot not in ways}
    templates = item[ways[0]] if len(ways) == 1 else None
    strings = isinstance(templates, list) and all(isinstance(t, str) for t in [*templates, *lists.values()])
    if not templates or not strings or not lists:
        raise TaskError(
            f"a list of templates under '{_EACH_WAY}' or '{_IN_TURN}' in {category!r}, and words for them",
            f"{item!r}",
            "See the README beside the bank's sources.",
        )
    for template in templates:
        if (slots := {slot for _, slot in _SLOT.findall(template)}) != lists.keys():
            raise TaskError(
                f"a template in {category!r} with the slots {sorted(lists)}",
                f"{template!r}, which has {sorted(slots)}",
                "Every list of words belongs into every template of its item.",
            )
    choices = [
        [(place, slot, word, f"{article(word)} {word}") for place, word in enumerate(map(str.strip, words.split(",")))]
        for slot, words in lists.items()
    ]
    for chosen in product(*choices):
        # The sum of the places, not a running count: else a word of the last list might always meet one template.
        turn = sum(place for place, *_ in chosen) % len(templates)
        for text in templates if ways[0] == _EACH_WAY else [templates[turn]]:
            for _, slot, word, with_article in chosen:
                text = text.replace(f"<{slot}>", word).replace(f"<a {slot}>", with_article)
                text = text.replace(f"<an {slot}>", with_article)
            yield text
