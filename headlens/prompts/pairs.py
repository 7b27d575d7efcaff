"""Pairs of texts for knowledge injection, RoboShot and Ortho-Cali: read from a file or by the name of a set, or made.

A file in YAML or JSON holds a list of pairs, or a mapping from a set's name to such a list:

    "true":                  # distinguish the classes by true features
      - [a bird with webbed feet, a bird with talons]
    spurious:                # distinguish the attribute's values
      - [a photo of water, a photo of land]
    crossed:                 # name one class, and differ in the attribute alone
      - [a landbird on water, a landbird on land]

FILE:NAME is one set of several, in Python and in the shell. The sets that come with headlens are such files, in
`pair_sets/`.

`cross_pairs` makes crossed pairs, as Ortho-Cali asks for, of class and attribute prompts. Chuang et al. 2023
(arXiv 2302.00070) write such prompts by hand for every data set; a file of one's own says them better.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from headlens.cells import read_text
from headlens.errors import HeadlensError, TaskError
from headlens.prompts.task import Attribute, EncodeText, ZeroShotTask

TextPairs = list[tuple[str, str]]

PAIR_SETS = Path(__file__).parent / "pair_sets"
_SLOT = re.compile(r"\{(\w*)\}")


def pair_sets() -> tuple[str, ...]:
    """The names of the sets that come with headlens."""
    return tuple(sorted(path.stem for path in PAIR_SETS.glob("*.yaml")))


def load_pairs(path: str | Path, key: str | None = None) -> TextPairs:
    """Read pairs of texts.

    Args:
        path: a .yaml, .yml or .json file, or the name of a set that comes with headlens, such as "waterbirds"; either
            may end in `:key`. A file that exists is read, whatever its name.
        key: which pairs of a file with several: "true", "spurious" or "crossed" in those that come with headlens. May
            be left out where there is one kind, or where the true pairs are meant.

    Raises:
        TaskError: for a file that cannot be read, a name that no set has, pairs that it does not hold, and a pair that
            is not two different texts.
    """
    path = Path(path)
    if key is None and not path.exists() and ":" in path.name:
        name, _, key = path.name.rpartition(":")
        path = path.with_name(name) if name else path
    if not path.suffix and not path.exists():
        if str(path) not in pair_sets():
            raise TaskError(
                f"{str(path)!r} is no .yaml or .json file of text pairs, and no set has this name.",
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
            raise TaskError(
                f"{str(path)!r} holds the sets {', '.join(content) or 'none'}, and none is named {key!r}.",
                f"Name one of them behind a colon: {path.name}:{next(iter(content), 'NAME')}.",
            )
        content = content[key]
    elif key is not None:
        raise TaskError(f"{str(path)!r} holds a plain list of pairs, and no set {key!r}.", "Leave the set's name out.")
    return check_pairs(content, repr(str(path)))


def fill_pairs(pairs: Sequence[Sequence[str]], **words: str) -> TextPairs:
    """The pairs with {first}, {second} and the like replaced by the words of these names.

    Raises:
        TaskError: as `load_pairs` for the pairs, for a slot without a word, and for a word without a slot.
    """
    checked = check_pairs(pairs)
    slots = {name for pair in checked for text in pair for name in _SLOT.findall(text)}
    if slots != words.keys():
        raise TaskError(
            f"The pairs have the slots {', '.join(sorted(slots)) or 'none'}, and there are words for "
            f"{', '.join(sorted(words)) or 'none'}.",
            "Give one word for each name in braces: fill_pairs(pairs, first='nurse', second='surgeon').",
        )
    return check_pairs([[_SLOT.sub(lambda slot: words[slot[1]], text) for text in pair] for pair in checked])


def check_pairs(pairs: Any, where: str = "the pairs") -> TextPairs:
    """The pairs as tuples. Raises `TaskError` where there is none, or one is not two different texts."""
    if not isinstance(pairs, Sequence) or isinstance(pairs, str) or not pairs:
        raise TaskError(f"There is no list of pairs in {where}.", "Write [first text, second text], one a line.")
    checked = []
    for number, pair in enumerate(pairs):
        texts = list(pair) if isinstance(pair, Sequence) and not isinstance(pair, str) else [pair]
        plain = [t.strip() for t in texts if isinstance(t, str) and t.strip()]
        if len(texts) != 2 or len(plain) != 2 or plain[0] == plain[1]:
            raise TaskError(
                f"Pair {number} of {where} is not two different texts: {str(pair)[:200]!r}.",
                "Write [first text, second text]: their difference is the direction.",
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
            raise TaskError(
                f"The pair {pair} has a slot to fill.", f"Fill {{{slots[0]}}}: headlens.prompts.fill_pairs does."
            )
    encoded = encode_text([text for pair in checked for text in pair])
    if encoded.ndim != 2 or len(encoded) != 2 * len(checked):
        raise TaskError(
            f"{2 * len(checked)} embeddings of [text embed]", f"shape {tuple(encoded.shape)}", "Pass clip.encode_text."
        )
    return encoded.unflatten(0, (len(checked), 2))


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
        values: words for the attribute's values in its order, such as ["on land", "on water"], instead of its prompts.

    Returns:
        classes · values · (values − 1) / 2 pairs, class by class.

    Raises:
        TaskError: for a template without both parts, and where there are not as many words as values.
    """
    if join.count("{class_prompt}") != 1 or join.count("{value}") != 1:
        raise TaskError(
            f"The template {join!r} does not have {{class_prompt}} and {{value}}, each once.",
            "Write for example '{class_prompt} {value}'.",
        )
    words = attribute.first_prompts() if values is None else tuple(values)
    if len(words) != len(attribute.value_names):
        raise TaskError(
            f"There are words for {len(words)} of the {len(attribute.value_names)} values of {attribute.name!r}.",
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


def _read(path: Path) -> Any:
    try:
        suffix = path.suffix.lower()
        if suffix not in (".yaml", ".yml", ".json"):
            raise TaskError(f"{str(path)!r} is no .yaml or .json file of text pairs.", "Save the pairs as one.")
        text = read_text(path.read_bytes(), repr(str(path)))
        if suffix == ".json":
            return json.loads(text)
        import yaml

        return yaml.safe_load(text)
    except HeadlensError as error:
        raise error.as_type(TaskError) from error
    except OSError as error:
        raise TaskError(
            f"The text pairs in {str(path)!r} do not read: {error.strerror or error}.", "Check the path."
        ) from error
    except Exception as error:  # YAML's own errors, and those that its values and deep nesting lead to
        raise TaskError(
            f"The text pairs in {str(path)!r} do not read: {' '.join(str(error).split()) or type(error).__name__}.",
            "Check the path and the file: it holds [first text, second text], one a line.",
        ) from error
