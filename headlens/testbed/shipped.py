"""The models that come with headlens: weights, preprocessing, tokenizer, and the card that tells what is in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from headlens.errors import ModelError
from headlens.testbed.network import build, preprocess, tokenizer
from headlens.testbed.recipes import RECIPES, recipe_name
from headlens.testbed.tokenizer import WordTokenizer

WEIGHTS = Path(__file__).parent / "weights"


def load_open_clip(
    name: str = "testbed", folder: Path = WEIGHTS
) -> tuple[nn.Module, Callable[..., Any], WordTokenizer]:
    """The open_clip model, its preprocessing and its tokenizer. `hl.load(name)` hooks them.

    Raises:
        ModelError: for a name that no testbed model has.
    """
    recipe = RECIPES[recipe_name(name)]
    path = folder / f"{recipe.name}.safetensors"
    if not path.is_file():
        raise ModelError("the weights of a testbed model", f"no file {path.name}", "Run make testbed to train it.")
    model = build(recipe.worlds, recipe.size)
    model.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    return model.requires_grad_(False).eval(), preprocess, tokenizer(recipe.worlds, recipe.size)


def card(name: str = "testbed", world: str | None = None) -> dict[str, Any]:
    """What a model was trained on, what was planted in it, how to ask it, and what was measured.

    Args:
        name: the model.
        world: which of its worlds to tell of: "birds" or "figures"; by default the figures, where it knows them.

    Raises:
        ModelError: for a name that no testbed model has, and for a world that the model does not know.
    """
    recipe = RECIPES[recipe_name(name)]
    if world is not None and world not in recipe.worlds:
        raise ModelError(
            f"a world that testbed-{recipe.name} was trained on: {', '.join(recipe.worlds)}",
            repr(world),
            "Name one of these, or leave it out.",
        )
    path = WEIGHTS / f"{recipe.name}.json"
    if not path.is_file():
        raise ModelError("the card of a testbed model", f"no file {path.name}", "Run make testbed to train it.")
    told = json.loads(path.read_text(encoding="utf-8"))
    worlds = told.pop("worlds", None)
    return told if worlds is None else told | worlds[world or recipe.worlds[-1]]
