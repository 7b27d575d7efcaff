"""A text bank: short descriptions of pictures, each in a category, from which a head gets its description."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from operator import index as as_index
from typing import SupportsIndex

import pandas as pd

from headlens.errors import TaskError

_WORD = re.compile(r"[a-z0-9]+")


def same_text(text: str) -> str:
    """What two spellings of one text have in common: capitals and spaces are set aside."""
    return " ".join(text.split()).casefold()


@dataclass(frozen=True)
class TextBank:
    """Texts and their categories, in a fixed order.

    Attributes:
        texts: the descriptions; none is empty, and none occurs twice (capitals and spaces set aside).
        categories: the category of each text.

    Raises:
        TaskError: for a bank without texts, an empty text or category, as many categories as there are not texts, or a
            text that occurs twice.
    """

    texts: tuple[str, ...]
    categories: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.texts:
            raise TaskError("a text bank of at least one text", "none", "Use headlens.prompts.default_bank().")
        if len(self.texts) != len(self.categories):
            raise TaskError(
                "one category for each text",
                f"{len(self.texts)} texts and {len(self.categories)} categories",
                "Pass two tuples of one length.",
            )
        first: dict[str, int] = {}
        for number, (text, category) in enumerate(zip(self.texts, self.categories, strict=True)):
            if not text.strip() or not category.strip():
                raise TaskError(
                    "texts and categories of at least one word",
                    f"{text!r} in category {category!r}, entry {number}",
                    "Fill it, or leave the entry out.",
                )
            earlier = first.setdefault(same_text(text), number)
            if earlier != number:
                raise TaskError(
                    "every text once",
                    f"{text!r} as entries {earlier} and {number}",
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
                raise TaskError(f"places from 0 to {len(self) - 1}", f"{index}", "Count the bank's texts from 0.")
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
                near = get_close_matches(category, known, n=3) or list(known)
                raise TaskError("categories of the bank", repr(category), f"Near ones: {', '.join(near)}.")
        return self.take(i for i, category in enumerate(self.categories) if category in wanted)

    def extended(self, texts: Sequence[str], category: str) -> TextBank:
        """The bank with `texts` as its last entries, in their order; an attribute's prototypes join it like this.

        A text that the bank had already moves to the end and to the new category. Of two equal texts only the first
        can be chosen, so that a prototype with a twin in the bank would never be seen.

        Raises:
            TaskError: for an empty text or category, or a text that is given twice.
        """
        if isinstance(texts, str):
            raise TaskError("a list of texts", repr(texts), "Put the text into a list.")
        moved = {same_text(text) for text in texts}
        kept = [entry for entry in zip(self.texts, self.categories, strict=True) if same_text(entry[0]) not in moved]
        return TextBank(
            tuple(text for text, _ in kept) + tuple(texts),
            tuple(name for _, name in kept) + (category,) * len(texts),
        )

    def within(self, vocabulary: Collection[str]) -> TextBank:
        """The texts whose words are all in `vocabulary`, for a text tower that knows few words.

        A word is a run of letters and digits; capitals and punctuation are set aside.

        Raises:
            TaskError: when not one text is left.
        """
        if isinstance(vocabulary, str):
            raise TaskError("a collection of words", repr(vocabulary), "Pass the words one by one, as a list or a set.")
        known = {word.casefold() for word in vocabulary}
        kept = [i for i, text in enumerate(self.texts) if known.issuperset(_WORD.findall(text.casefold()))]
        if not kept:
            raise TaskError(
                "a text whose words are all known",
                f"none among {len(self)} texts, with a vocabulary of {len(known)} words",
                "Write a bank in the words of the model, and read it with headlens.prompts.load_bank.",
            )
        return self.take(kept)
