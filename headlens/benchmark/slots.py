"""Text pairs with {first} and {second} in them, which wait for the names of two classes."""

from __future__ import annotations

from collections.abc import Sequence

from headlens.prompts import TextPairs, fill_pairs

Two = tuple[int, int]
Pairs = Sequence[Sequence[str]]


def has_slots(pairs: Pairs | None) -> bool:
    """Whether pairs wait for the names of two classes."""
    return any("{" in text for pair in pairs or () for text in pair)


def fill_two(pairs: Pairs, two: Two, classes: Sequence[str]) -> TextPairs:
    """The pairs with the names of these two classes; a pair without slots stays as it is."""
    words = {"first": classes[two[0]].lower(), "second": classes[two[1]].lower()}
    done: TextPairs = []
    for pair in pairs:
        used = {name: word for name, word in words.items() if any(f"{{{name}}}" in text for text in pair)}
        done += fill_pairs([pair], **used)
    return done


def filled(pairs: Pairs, twos: Sequence[Two], classes: Sequence[str]) -> TextPairs:
    """The pairs of all of these two classes, each once."""
    return list(dict.fromkeys(pair for two in twos for pair in fill_two(pairs, two, classes)))
