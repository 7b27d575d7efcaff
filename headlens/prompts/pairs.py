"""Pairs of texts for knowledge injection and RoboShot, read from YAML or JSON.

A file holds a list of pairs, or a mapping from a set's name to such a list:

    true:
      - [a bird with webbed feet, a bird with talons]
    spurious:
      - [a photo of water, a photo of land]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from headlens.errors import TaskError
from headlens.prompts.encode import EncodeText

TextPairs = list[tuple[str, str]]


def load_pairs(path: str | Path, key: str | None = None) -> TextPairs:
    """Read pairs of texts.

    Args:
        path: a .yaml, .yml or .json file.
        key: which set of a file with several; may be left out where there is one.

    Raises:
        TaskError: for a file that cannot be read, a set that it does not hold, and a pair that is not two different
            texts.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() in (".yaml", ".yml"):
            import yaml

            try:
                content: Any = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise ValueError(str(error)) from error
        elif path.suffix.lower() == ".json":
            content = json.loads(text)
        else:
            raise ValueError(f"a file ending in {path.suffix!r}")
    except (OSError, ValueError) as error:
        raise TaskError(
            "a .yaml or .json file of text pairs", f"{path}: {error}", "Check the path and the file."
        ) from error
    if isinstance(content, dict):
        if key is None and len(content) == 1:
            key = next(iter(content))
        if key not in content:
            raise TaskError(f"one of the sets {', '.join(map(str, content))} in {path}", repr(key), "Pass key=.")
        content = content[key]
    elif key is not None:
        raise TaskError(f"a set {key!r} in {path}", "a plain list of pairs", "Leave key= out.")
    return check_pairs(content, str(path))


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
        TaskError: as `load_pairs` does for the pairs.
    """
    checked = check_pairs(pairs)
    encoded = encode_text([text for pair in checked for text in pair])
    if encoded.ndim != 2 or len(encoded) != 2 * len(checked):
        raise TaskError(
            f"{2 * len(checked)} embeddings of [text embed]", f"shape {tuple(encoded.shape)}", "Pass clip.encode_text."
        )
    return encoded.unflatten(0, (len(checked), 2))
