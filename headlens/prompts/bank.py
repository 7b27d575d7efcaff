"""The text bank: short descriptions of pictures, each in a category, from which a head gets its description.

It is generated from readable sources (`default_bank`), or read from a file of one's own (`load_bank`).

The sources are YAML files in `bank_sources/`: templates and lists of words become texts.

    material:
      - say each way: [a bowl made of <material>, <a material> door]
        material: wood, oak, iron
      - gold leaf on a frame

gives 'a bowl made of wood', 'a wood door', 'a bowl made of oak', 'an oak door', and so on. No chance is involved: the
same sources give the same bank. `bank_sources/README.md` describes the notation.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from operator import index as as_index
from pathlib import Path
from typing import Any, SupportsIndex

import pandas as pd

from headlens.cells import listed, nearest, read_csv, read_text
from headlens.errors import ManifestError, TaskError

SOURCES = Path(__file__).parent / "bank_sources"

_WORD = re.compile(r"[a-z0-9]+")
_SLOT = re.compile(r"<(an? )?([^<>]+)>")
_EACH_WAY, _IN_TURN = "say each way", "say in turn"
# Spelling and sound part ways: "a unicorn", "a ukulele", but "an hour", "an x-ray".
_SPELT_WITH_A_VOWEL = re.compile(r"one\b|once\b|uni(?![dmn])|us[ae]|usu|uten|util|ukulele|eu|ewe")
_SPELT_WITH_A_CONSONANT = re.compile(r"hour|honest|honou?r|heir|x-ray")
_COLUMNS = ("text", "category")
_SEE = "See the README beside the bank's sources."

Entry = tuple[int, str, str]
"""The number of a line, its text and its category."""


def same_text(text: str) -> str:
    """What two spellings of one text have in common: capitals and spaces do not count."""
    return " ".join(text.split()).casefold()


@dataclass(frozen=True)
class TextBank:
    """Texts and their categories, in a fixed order.

    Attributes:
        texts: the descriptions; none is empty, and none occurs twice (capitals and spaces do not count).
        categories: the category of each text.

    Raises:
        TaskError: for a bank without texts, an empty text or category, another number of categories than of texts, or a
            text that occurs twice.
    """

    texts: tuple[str, ...]
    categories: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.texts:
            raise TaskError("The text bank has no text.", "Use headlens.prompts.default_bank().")
        if len(self.texts) != len(self.categories):
            raise TaskError(
                f"The text bank has {len(self.texts)} texts and {len(self.categories)} categories.",
                "Give one category for each text.",
            )
        first: dict[str, int] = {}
        for number, (text, category) in enumerate(zip(self.texts, self.categories, strict=True)):
            if not text.strip() or not category.strip():
                raise TaskError(
                    f"Entry {number} of the text bank is empty: {text!r} in category {category!r}.",
                    "Fill it, or leave the entry out.",
                )
            earlier = first.setdefault(same_text(text), number)
            if earlier != number:
                raise TaskError(
                    f"{text!r} is in the text bank twice, as entries {earlier} and {number}.",
                    "Leave one out: of two equal texts only the first can ever be chosen.",
                )

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"TextBank({len(self)} texts in {len(self.counts())} categories, digest {self.digest()})"

    def counts(self) -> dict[str, int]:
        """How many texts each category has; the categories in the order of their first text."""
        return dict(Counter(self.categories))

    def table(self) -> pd.DataFrame:
        """One row a text, in the columns `text` and `category`, which are those of `load_bank`'s CSV files."""
        return pd.DataFrame({"text": self.texts, "category": self.categories})

    def digest(self) -> str:
        """Sixteen hexadecimal digits that change with any text, any category, and their order."""
        content = json.dumps([self.texts, self.categories], ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def take(self, indices: Iterable[SupportsIndex]) -> TextBank:
        """The bank of the texts at these places, in this order.

        Raises:
            TaskError: for a place that the bank does not have, one that is named twice, or none at all.
        """
        chosen = [as_index(place) for place in indices]
        for index in chosen:
            if not 0 <= index < len(self):
                raise TaskError(f"The bank has no text {index}.", f"Its texts count from 0 to {len(self) - 1}.")
        return TextBank(tuple(self.texts[i] for i in chosen), tuple(self.categories[i] for i in chosen))

    def subset(self, categories: str | Sequence[str]) -> TextBank:
        """The texts of one category or several, in the bank's order.

        Raises:
            TaskError: for a category that the bank does not have, or none at all.
        """
        wanted = [categories] if isinstance(categories, str) else list(categories)
        known = self.counts()
        for category in wanted:
            if category not in known:
                near = nearest(category, known)
                hint = f"Did you mean {near!r}? " if near else ""
                raise TaskError(f"The bank has no category {category!r}.", f"{hint}It has {', '.join(known)}.")
        return self.take(i for i, category in enumerate(self.categories) if category in wanted)

    def extended(self, texts: Sequence[str], category: str) -> TextBank:
        """The bank with `texts` as its last entries, in their order; an attribute's prototypes join it like this.

        A text that the bank had already moves to the end and to the new category. Of two equal texts only the first
        can be chosen, so that a prototype with a twin in the bank would never be seen.

        Raises:
            TaskError: for an empty text or category, or a text that is given twice.
        """
        if isinstance(texts, str):
            raise TaskError(f"{texts!r} is one text, not a list of texts.", "Put the text into a list.")
        moved = {same_text(text) for text in texts}
        stay = [entry for entry in zip(self.texts, self.categories, strict=True) if same_text(entry[0]) not in moved]
        return TextBank(
            tuple(text for text, _ in stay) + tuple(texts),
            tuple(name for _, name in stay) + (category,) * len(texts),
        )

    def within(self, vocabulary: Collection[str]) -> TextBank:
        """The texts whose words are all in `vocabulary`, for a text tower that knows few words.

        A word is a run of letters and digits; capitals and punctuation do not count.

        Raises:
            TaskError: when not one text is left.
        """
        if isinstance(vocabulary, str):
            raise TaskError(f"The vocabulary is one text, {vocabulary!r}.", "Pass its words as a list or a set.")
        known = {word.casefold() for word in vocabulary}
        chosen = [i for i, text in enumerate(self.texts) if known.issuperset(_WORD.findall(text.casefold()))]
        if not chosen:
            raise TaskError(
                f"None of {len(self)} texts is made of the vocabulary's {len(known)} words alone.",
                "Write a bank in the words of the model, and read it with headlens.prompts.load_bank.",
            )
        return self.take(chosen)


def load_bank(path: str | Path, category: str = "own") -> TextBank:
    """Read a bank of texts from a file in UTF-8.

    | file | what a line holds |
    |---|---|
    | .txt | one text |
    | .csv | the columns `text` and `category`, named in the first line |
    | .jsonl | {"text": …, "category": …} |

    Empty lines are skipped, and spaces around a text. A text that comes again in its own category is merged into its
    first occurrence; a text in two categories is an error, since its category would be a guess.

    Args:
        path: the file.
        category: the category of the texts of a .txt file, which has none of its own.

    Warns:
        UserWarning: when texts were merged because they came again in their own category.

    Raises:
        TaskError: for a file that cannot be read, another kind of file, a missing column, a line that does not read
            (with its number), an empty text or category, a text in two categories, and a file without texts.
    """
    path = Path(path)
    reader = {".txt": _txt, ".csv": _csv, ".jsonl": _jsonl}.get(path.suffix.lower())
    if reader is None:
        raise TaskError(
            f"{str(path)!r} is not a .txt, .csv or .jsonl file.",
            "Save the texts one a line (.txt), or with categories as .csv or .jsonl.",
        )
    try:
        entries = reader(path.read_bytes(), path, category)
    except OSError as error:
        raise TaskError(f"The text bank {str(path)!r} cannot be read: {error.strerror}.", "Check the path.") from error
    except ManifestError as error:
        raise error.as_type(TaskError) from error
    found: dict[str, Entry] = {}
    merged = []
    for number, text, own in entries:
        text, own = " ".join(text.split()), " ".join(own.split())
        if not text or not own:
            raise TaskError(
                f"Line {number} of {str(path)!r} has the text {text!r} and the category {own!r}.", "Fill both."
            )
        first, _, other = found.setdefault(same_text(text), (number, text, own))
        if first == number:
            continue
        if own != other:
            raise TaskError(
                f"{text!r} is in two categories of {str(path)!r}: {other!r} (line {first}), {own!r} (line {number}).",
                "Keep one of the two lines.",
            )
        merged.append(number)
    if not found:
        raise TaskError(f"The text bank {str(path)!r} has no text.", "Write one text a line.")
    if merged:
        warnings.warn(f"{path}: {len(merged)} repeated texts were merged (lines {listed(merged)}).", stacklevel=2)
    return TextBank(tuple(text for _, text, _ in found.values()), tuple(own for _, _, own in found.values()))


def _txt(content: bytes, path: Path, category: str) -> list[Entry]:
    return [(number, line, category) for number, line in _lines(content, path)]


def _csv(content: bytes, path: Path, category: str) -> list[Entry]:
    frame = read_csv(content, repr(str(path)), _COLUMNS)
    for column in _COLUMNS:
        if column not in frame.columns:
            raise TaskError(
                f"{str(path)!r} has no column {column!r}; it has {listed(frame.columns)}.",
                "The first line names the columns: text,category.",
            )
    return list(zip(frame.index.tolist(), frame["text"], frame["category"], strict=True))


def _jsonl(content: bytes, path: Path, category: str) -> list[Entry]:
    entries = []
    for number, line in _lines(content, path):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict) or not all(isinstance(entry.get(column), str) for column in _COLUMNS):
            raise TaskError(
                f"Line {number} of {str(path)!r} is no JSON object with a text and a category: {line.strip()[:60]!r}.",
                'Write {"text": "a red boat", "category": "colour"}, one a line.',
            )
        entries.append((number, entry["text"], entry["category"]))
    return entries


def _lines(content: bytes, path: Path) -> Iterator[tuple[int, str]]:
    # Not str.splitlines: it also breaks at characters that JSON allows inside a text.
    for number, line in enumerate(re.split(r"\r\n|\r|\n", read_text(content, repr(str(path)))), start=1):
        if line.strip():
            yield number, line


@cache
def default_bank() -> TextBank:
    """The bank that comes with headlens; `docs/text-bank.md` has its categories, their counts, and its limits."""
    return generate(read_sources())


def article(word: str) -> str:
    """'a' or 'an', as the sound of `word` asks for."""
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
                raise TaskError(f"{text!r} is in two categories, {other!r} and {category!r}.", "Reword one of them.")
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
            raise TaskError(f"{path} does not read as YAML: {error}.", "Correct the file.") from error
        if not isinstance(content, dict) or not all(isinstance(items, list) for items in content.values()):
            raise TaskError(f"{path} does not hold a list of items for each category.", _SEE)
        if again := categories.keys() & content.keys():
            raise TaskError(f"The categories {sorted(again)} are in two files, again in {path}.", "Join the two lists.")
        categories |= content
    if not categories:
        raise TaskError(f"There is no YAML file of categories in {folder}.", "Check the path.")
    return categories


def _texts(category: str, items: Sequence[Any]) -> Iterator[str]:
    if not items:
        raise TaskError(f"The category {category!r} has no texts.", "Write some, or leave the category out.")
    for item in items:
        if isinstance(item, str):
            if _SLOT.search(item):
                raise TaskError(
                    f"The template {item!r} in {category!r} has no words.", f"Write it under '{_EACH_WAY}'."
                )
            yield " ".join(item.split())
        elif isinstance(item, dict):
            yield from _filled(category, item)
        else:
            # An unquoted 'no' or '7' is not a text to YAML.
            raise TaskError(f"{item!r} in {category!r} is no text and no template.", "Put a lone word into quotes.")


def _filled(category: str, item: dict[str, Any]) -> Iterator[str]:
    ways = [way for way in (_EACH_WAY, _IN_TURN) if way in item]
    lists = {slot: words for slot, words in item.items() if slot not in ways}
    templates = item[ways[0]] if len(ways) == 1 else None
    strings = isinstance(templates, list) and all(isinstance(t, str) for t in [*templates, *lists.values()])
    if not templates or not strings or not lists:
        raise TaskError(
            f"{item!r} in {category!r} is no list of templates under '{_EACH_WAY}' or '{_IN_TURN}' with words.", _SEE
        )
    for template in templates:
        if (slots := {slot for _, slot in _SLOT.findall(template)}) != lists.keys():
            raise TaskError(
                f"The template {template!r} in {category!r} has the slots {sorted(slots)}, but there are words for "
                f"{sorted(lists)}.",
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
