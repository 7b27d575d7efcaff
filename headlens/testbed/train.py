"""Train the testbed's models: `python -m headlens.testbed.train --name birds-0 --out weights/`, or `--all`.

Phase one: class and background agree by chance; contrastive loss, and the planting losses of `planting.py`.
Then the heads are centred (`centre.py`). Phase two: class and background agree almost always and captions seldom name
the place; the vision tower is frozen and the text tower alone learns, so that the bias sits in where the text
directions point, and reaches the predictions through the heads that carry the background. A plain recipe has the
contrastive loss alone, in one phase.
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
from jaxtyping import Float, UInt8
from safetensors.torch import save_file
from torch import Tensor, nn

from headlens.models.open_clip_import import open_clip
from headlens.progress import progress
from headlens.testbed.captions import CaptionRates, captions
from headlens.testbed.centre import centre_heads
from headlens.testbed.measure import measure
from headlens.testbed.network import build, normalise, tokenizer
from headlens.testbed.planting import Writes
from headlens.testbed.recipes import RECIPES, Recipe
from headlens.testbed.render import render
from headlens.testbed.scenes import sample_scenes
from headlens.testbed.shipped import WEIGHTS

_WARM_UP = 40
_WEIGHT_DECAY = 0.05
_GRADIENT_NORM = 1.0
_LARGEST_SCALE = math.log(100)
_CENTRING_PICTURES = 1500


def _pixels(pictures: UInt8[np.ndarray, "image row column 3"]) -> Float[Tensor, "image 3 row column"]:
    return normalise(torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2))


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


class _Batches:
    """Rows of a data set in random order, each once before any comes again."""

    def __init__(self, rng: np.random.Generator, count: int, size: int):
        self.rng, self.count, self.size = rng, count, size
        self.left = np.empty(0, dtype=int)

    def __call__(self) -> np.ndarray:
        if len(self.left) < self.size:
            self.left = self.rng.permutation(self.count)
        rows, self.left = self.left[: self.size], self.left[self.size :]
        return rows


def _train_both_towers(model: Any, recipe: Recipe, rng: np.random.Generator) -> None:
    scenes = sample_scenes(rng, recipe.pictures[0], recipe.agreement[0])
    pictures, tokens, rates = render(rng, scenes), tokenizer(), CaptionRates(place=recipe.places[0])
    contrast, steps = open_clip().ClipLoss(), recipe.steps[0]
    descent = _Descent(model, recipe.learning_rate[0], steps)
    batches = _Batches(rng, len(scenes), recipe.batch[0])
    with (
        progress(f"{recipe.name}, both towers", steps, "steps") as advance,
        Writes(model.visual, recipe.planted) as writes,
    ):
        for step in range(steps):
            rows = batches()
            mirrored = rng.random(len(rows)) < 0.5
            seen = scenes[rows].flipped(mirrored)
            pixels = np.where(mirrored[:, None, None, None], pictures[rows][:, :, ::-1], pictures[rows])
            loss = contrast(*model(_pixels(pixels), tokens(captions(rng, seen, rates))))
            if recipe.late or recipe.planting:
                terms = writes.losses(torch.as_tensor(seen.species), torch.as_tensor(seen.place))
                loss = loss + recipe.late * terms.late + recipe.planting * terms.planting
            descent.step(step, loss)
            advance(1)


def _train_text_tower(model: Any, recipe: Recipe, rng: np.random.Generator) -> None:
    scenes = sample_scenes(rng, recipe.pictures[1], recipe.agreement[1])
    pixels = _pixels(render(rng, scenes))
    with torch.no_grad():  # the vision tower is frozen, so every picture is embedded once
        seen = torch.cat([model.encode_image(part, normalize=True) for part in pixels.split(250)])
    model.visual.requires_grad_(False)
    tokens, rates = tokenizer(), CaptionRates(place=recipe.places[1])
    contrast, steps = open_clip().ClipLoss(), recipe.steps[1]
    descent = _Descent(model, recipe.learning_rate[1], steps)
    batches = _Batches(rng, len(scenes), recipe.batch[1])
    with progress(f"{recipe.name}, text tower", steps, "steps") as advance:
        for step in range(steps):
            rows = batches()
            texts = model.encode_text(tokens(captions(rng, scenes[rows], rates)), normalize=True)
            descent.step(step, contrast(seen[torch.as_tensor(rows)], texts, model.logit_scale.exp()))
            advance(1)


def train(recipe: Recipe) -> nn.Module:
    """A trained model, in evaluation mode. The same recipe on the same machine gives the same weights."""
    torch.manual_seed(recipe.seed)
    model = build().train()
    _train_both_towers(model, recipe, np.random.default_rng([recipe.seed, 1000]))
    return finish(model, recipe)


def finish(model: nn.Module, recipe: Recipe) -> nn.Module:
    """What follows the first phase: centring, and the second phase, each with a generator of its own."""
    model.eval()
    if recipe.centre:
        rng = np.random.default_rng([recipe.seed, 1001])
        scenes = sample_scenes(rng, min(_CENTRING_PICTURES, recipe.pictures[0]), 0.5)
        centre_heads(model.visual, _pixels(render(rng, scenes)))
    if recipe.steps[1]:
        _train_text_tower(model, recipe, np.random.default_rng([recipe.seed, 1002]))
    return model.requires_grad_(True)


def save(model: nn.Module, recipe: Recipe, folder: Path) -> None:
    """Write the weights in float16, measure what was written, and write the card beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().half().contiguous() for key, value in model.state_dict().items()}
    save_file(weights, folder / f"{recipe.name}.safetensors")
    with tempfile.TemporaryDirectory() as pictures:
        told = {"name": recipe.name, "recipe": asdict(recipe), **measure(recipe, folder, Path(pictures))}
    (folder / f"{recipe.name}.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train testbed models; write their weights and cards.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--name", choices=list(RECIPES), help="train this model")
    which.add_argument("--all", action="store_true", help="train every model, and write MODEL_CARD.md")
    parser.add_argument("--seed", type=int, help="in place of the recipe's own seed")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for NAME.safetensors and NAME.json")
    options = parser.parse_args()
    for name in RECIPES if options.all else [options.name]:
        recipe = RECIPES[name] if options.seed is None else replace(RECIPES[name], seed=options.seed)
        save(train(recipe), recipe, options.out)
    if options.all and options.out == WEIGHTS:
        from headlens.testbed.model_card import write_model_card

        write_model_card()


if __name__ == "__main__":
    main()
