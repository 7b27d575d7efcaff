"""Train the testbed's models: `python -m tools.testbed.train --name worlds-0 --out weights/`, or `--all`; with
`--measure` the cards alone are written again, from the weights that are there.

Phase one: class and attribute agree by chance; contrastive loss, and the planting losses of `planting.py`. Then the
heads are centred; with figures, a short stretch more settles the planted heads (`Recipe.settle`), and
they are centred again. Phase two: class and attribute agree almost always and captions seldom name the attribute; the
vision tower is frozen and the text tower alone learns, so that the bias sits in where the text directions point, and
reaches the predictions through the heads that carry the attribute. A plain recipe has the contrastive loss alone, in
one phase. With two worlds half of every batch comes from each.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from headlens.models.open_clip_import import open_clip
from headlens.progress import progress
from headlens.serialization import write_arrays
from headlens.testbed.birds import CaptionRates
from headlens.testbed.models import WEIGHTS, WordTokenizer, build, tokenizer
from headlens.testbed.worlds import WORLDS
from tools.testbed.feed import Feed, as_pixels
from tools.testbed.measure import measure
from tools.testbed.planting import Planting, Writes, centre_heads
from tools.testbed.recipes import RECIPES, Recipe

_WARM_UP = 40
_WEIGHT_DECAY = 0.05
_GRADIENT_NORM = 1.0
_LARGEST_SCALE = math.log(100)
_CENTRING_PICTURES = 1500
_SETTLING_PICTURES = 2500


class _Descent:
    """AdamW with a warm-up and a cosine; vectors and scalars are not decayed."""

    def __init__(self, model: Any, peak: float, steps: int):
        self.model, self.peak, self.steps = model, peak, steps
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in self.parameters if p.ndim > 1], "weight_decay": _WEIGHT_DECAY},
            {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))

    def step(self, step: int, loss: Float[Tensor, ""]) -> None:
        rate = min(1.0, (step + 1) / _WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak * rate
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, _GRADIENT_NORM)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, _LARGEST_SCALE)


def _feeds(recipe: Recipe, phase: int, stream: int, most: int | None = None) -> list[Feed]:
    """Each world's part of the batches of a phase (0 or 1), from generators of their own; `most` pictures of each."""
    size = recipe.batch[phase] // len(recipe.worlds)
    told = recipe.figures
    counts = [one.pictures[phase] if most is None else most for one in (recipe, told) if one is not None]
    rng = np.random.default_rng([recipe.seed, stream])
    rates: Any = CaptionRates(place=recipe.places[phase])
    feeds = [Feed("birds", rng, counts[0], recipe.agreement[phase], rates, size)]
    if told is not None:
        rng = np.random.default_rng([recipe.seed, stream, 1])
        feeds.append(
            Feed(
                "figures",
                rng,
                told.pictures[phase],
                told.agreement[phase],
                told.rates[phase],
                recipe.batch[phase] - size,
            )
        )
    return feeds


def _plantings(recipe: Recipe, feeds: list[Feed], settling: bool) -> list[Planting]:
    """What is planted in the batch that the feeds drew last."""
    first = len(feeds[0].drawn)
    species, places = (torch.as_tensor(getattr(feeds[0].drawn, name)) for name in ("species", "place"))
    parts = [Planting(slice(0, first), recipe.planted, places, [species])]
    if recipe.figures is not None:
        told, rows = recipe.figures, slice(first, None)
        occupation, presentation, age, place = (
            torch.as_tensor(getattr(feeds[1].drawn, name)) for name in ("label", "presentation", "age", "place")
        )
        birds = parts[0].rows if settling else None
        parts += [
            Planting(rows, told.planted, presentation, [occupation, age, place], True, told.weight, told.carry, birds),
            Planting(rows, told.control, age, [occupation, presentation, place], False, told.weight, told.carry, birds),
        ]
    return parts


def _train_both_towers(model: Any, recipe: Recipe, tokens: WordTokenizer, settling: bool = False) -> None:
    feeds = _feeds(recipe, 0, 1003, _SETTLING_PICTURES) if settling else _feeds(recipe, 0, 1000)
    steps, rate = (recipe.settle, 0.5) if settling else (recipe.steps[0], 1.0)
    contrast, descent = open_clip().ClipLoss(), _Descent(model, rate * recipe.learning_rate[0], steps)
    with progress(f"{recipe.name}, both towers", steps, "steps") as advance, Writes(model.visual) as writes:
        for step in range(steps):
            for feed in feeds:
                feed.draw(mirror=True)
            pixels = as_pixels(np.concatenate([feed.pixels() for feed in feeds]))
            loss = contrast(*model(pixels, tokens([text for feed in feeds for text in feed.texts()])))
            if recipe.late or recipe.planting:
                terms = writes.losses(_plantings(recipe, feeds, settling))
                loss = loss + recipe.late * terms.late + recipe.planting * terms.planting + terms.apart
            descent.step(step, loss)
            advance(1)


def _train_text_tower(model: Any, recipe: Recipe, tokens: WordTokenizer) -> None:
    feeds = _feeds(recipe, 1, 1002)
    with torch.no_grad():
        seen = [
            torch.cat(
                [
                    model.encode_image(as_pixels(feed.pictures[i : i + 250]), normalize=True)
                    for i in range(0, len(feed.pictures), 250)
                ]
            )
            for feed in feeds
        ]
    model.visual.requires_grad_(False)
    contrast, steps = open_clip().ClipLoss(), recipe.steps[1]
    descent = _Descent(model, recipe.learning_rate[1], steps)
    with progress(f"{recipe.name}, text tower", steps, "steps") as advance:
        for step in range(steps):
            for feed in feeds:
                feed.draw(mirror=False)
            images = torch.cat([seen[i][torch.as_tensor(feed.rows)] for i, feed in enumerate(feeds)])
            texts = model.encode_text(tokens([text for feed in feeds for text in feed.texts()]), normalize=True)
            descent.step(step, contrast(images, texts, model.logit_scale.exp()))
            advance(1)


def train(recipe: Recipe) -> nn.Module:
    """A trained model, in evaluation mode. The same recipe on the same machine gives the same weights."""
    torch.manual_seed(recipe.seed)
    model = build(recipe.worlds, recipe.size).train()
    tokens = tokenizer(recipe.worlds, recipe.size)
    _train_both_towers(model, recipe, tokens)
    _centre(model, recipe)
    if recipe.settle:
        _train_both_towers(model.train(), recipe, tokens, settling=True)
        _centre(model, recipe)
    return finish(model, recipe)


def finish(model: nn.Module, recipe: Recipe) -> nn.Module:
    """The second phase."""
    if recipe.steps[1]:
        _train_text_tower(model.eval(), recipe, tokenizer(recipe.worlds, recipe.size))
    return model.eval().requires_grad_(True)


def _centre(model: Any, recipe: Recipe) -> None:
    if recipe.centre:
        centre_heads(model.eval().visual, as_pixels(_centring_pictures(recipe)))


def _centring_pictures(recipe: Recipe) -> np.ndarray:
    """Pictures without a correlation, of every world of the recipe."""
    pictures = []
    for number, name in enumerate(recipe.worlds):
        rng = np.random.default_rng([recipe.seed, 1001, *([number] if number else [])])
        scenes = WORLDS[name].sample(rng, min(_CENTRING_PICTURES, recipe.pictures[0]), 0.5)
        pictures.append(WORLDS[name].render(rng, scenes))
    return np.concatenate(pictures)


def save(model: nn.Module, recipe: Recipe, folder: Path) -> None:
    """Write the weights in float16, measure what was written, and write the card beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().half().contiguous() for key, value in model.state_dict().items()}
    write_arrays(folder / f"{recipe.name}.safetensors", weights)
    write_card(recipe, folder)


def write_card(recipe: Recipe, folder: Path) -> None:
    """Measure the weights in a folder, and write their card beside them."""
    with tempfile.TemporaryDirectory() as pictures:
        told = {"name": recipe.name, "recipe": asdict(recipe), **measure(recipe, folder, Path(pictures))}
    (folder / f"{recipe.name}.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train testbed models; write their weights and cards.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--name", choices=list(RECIPES), help="train this model")
    which.add_argument("--all", action="store_true", help="train every model, and write MODEL_CARD.md")
    parser.add_argument("--measure", action="store_true", help="train nothing: measure the weights in --out again")
    parser.add_argument("--seed", type=int, help="in place of the recipe's own seed")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for NAME.safetensors and NAME.json")
    options = parser.parse_args()
    for name in RECIPES if options.all else [options.name]:
        recipe = RECIPES[name] if options.seed is None else replace(RECIPES[name], seed=options.seed)
        if options.measure:
            write_card(recipe, options.out)
        else:
            save(train(recipe), recipe, options.out)
    if options.all and options.out == WEIGHTS:
        from tools.testbed.model_card import write_model_card

        write_model_card()


if __name__ == "__main__":
    main()
