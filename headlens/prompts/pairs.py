"""Pairs of texts for knowledge injection, RoboShot and Ortho-Cali, read from YAML or JSON, or by the name of a set.

A file holds a list of pairs, or a mapping from a set's name to such a list:

    "true":                  # tell the classes apart by true features
      - [a bird with webbed feet, a bird with talons]
    spurious:                # tell the attribute's values apart
      - [a photo of water, a photo of land]
    crossed:                 # name one class, and differ in the attribute alone
      - [a landbird on water, a landbird on land]

The sets that come with headlens are such files, in `pair_sets/`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from headlens.errors import TaskError
from headlens.prompts.encode import EncodeText

TextPairs = list[tuple[str, str]]

PAIR_SETS = Path(__file__).parent / "pair_sets"
_SLOT = re.compile(r"\{(\w*)\}")


def pair_sets() -> tuple[str, ...]:
    """The names of the sets that come with headlens."""
    return tuple(sorted(path.stem for path in PAIR_SETS.glob("*.yaml")))


def load_pairs(path: str | Path, key: str | None = None) -> TextPairs:
    """Read pairs of texts.

    Args:
        path: a .yaml, .yml or .json file, or the name of a set that comes with headlens, such as "waterbirds". A file
            that exists is read, whatever its name.
        key: which pairs of a file with several: "true", "spurious" or "crossed" in those that come with headlens. May
            be left out where there is one kind, or where the true pairs are meant.

    Raises:
        TaskError: for a file that cannot be read, a name that no set has, pairs that it does not hold, and a pair that
            is not two different texts.
    """
    path = Path(path)
    if not path.suffix and not path.exists():
        if str(path) not in pair_sets():
            raise TaskError(
                "a .yaml or .json file of text pairs, or the name of a set",
                repr(str(path)),
                f"Sets that come with headlens: {', '.join(pair_sets())}.",
            )
        path = PAIR_SETS / f"{path}.yaml"
    content = _read(path)
    if isinstance(content, dict):
        # YAML reads a bare `true` as a truth value.
        content = {str(name).lower() if isinstance(name, bool) else str(name): pairs for name, pairs in content.items()}
        if key is None:
            key = next(iter(content)) if len(content) == 1 else "true"
        if key not in content:
            raise TaskError(f"one of the sets {', '.join(content)} in {path}", repr(key), "Pass key=.")
        content = content[key]
    elif key is not None:
        raise TaskError(f"a set {key!r} in {path}", "a plain list of pairs", "Leave key= out.")
    return check_pairs(content, str(path))


def fill_pairs(pairs: Sequence[Sequence[str]], **words: str) -> TextPairs:
    """The pairs with {first}, {second} and the like replaced by the words of these names.

    Raises:
        TaskError: as `load_pairs` for the pairs, for a slot without a word, and for a word without a slot.
    """
    checked = check_pairs(pairs)
    slots = {name for pair in checked for text in pair for name in _SLOT.findall(text)}
    if slots != words.keys():
        raise TaskError(
            f"words for {', '.join(sorted(slots)) or 'no slot at all'}",
            ", ".join(sorted(words)) or "none",
            "Give one word for each name in braces: fill_pairs(pairs, first='nurse', second='surgeon').",
        )
    return check_pairs([[_SLOT.sub(lambda slot: words[slot[1]], text) for text in pair] for pair in checked])


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() in (".yaml", ".yml"):
            import yaml

            try:
                return yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise ValueError(str(error)) from error
        if path.suffix.lower() == ".json":
            return json.loads(text)
        raise ValueError(f"a file ending in {path.suffix!r}")
    except (OSError, ValueError) as error:
        raise TaskError(
            "a .yaml or .json file of text pairs", f"{path}: {error}", "Check the path and the file."
        ) from error


def check_pairs(pairs: Any, where: str = "the pairs") -> TextPairs:
    """The pairs as tuples. Raises `TaskError` where there is none, or one is not two different texts."""
    if not isinstance(pairs, Sequence) or isinstance(pairs, str) or not pairs:
        raise TaskError(f"a list of pairs in {where}", f"{pairs!r}", "Write [first text, second text], one a line.")
    checked = []
    for number, pair in enumerate(pairs):
        texts = list(pair) if isinstance(pair, Sequence) and not isinstance(pair, str) else [pair]
        plain = [t.strip() for t in texts if isinstance(t, str) and t.strip()]
        if len(texts) != 2 or len(plain) != 2 or plain[0] == plain[1]:
            raise TaskError(
                f"two different texts in pair {number} of {where}", f"{pair!r}", "Their difference is the direction."
            )
        checked.append((plain[0], plain[1]))
    return checked


def encode_pairs(pairs: Sequence[Sequence[str]], encode_text: EncodeText) -> Float[Tensor, "pair 2 embed"]:
    """The text embeddings of the pairs, as they come (not normalised), for `headlens.correct`.

    Raises:
        TaskError: as `load_pairs` does for the pairs, and for one with a slot that was not filled.
    """
    checked = check_pairs(pairs)
    for pair in checked:
        if slots := [slot for text in pair for slot in _SLOT.findall(text)]:
            raise TaskError("texts without slots", f"{pair}", f"Fill {{{slots[0]}}}: headlens.prompts.fill_pairs does.")
    encoded = encode_text([text for pair in checked for text in pair])
    if encoded.ndim != 2 or len(encoded) != 2 * len(checked):
        raise TaskError(
            f"{2 * len(checked)} embeddings of [text embed]", f"shape {tuple(encoded.shape)}", "Pass clip.encode_text."
        )
    return encoded.unflatten(0, (len(checked), 2))
