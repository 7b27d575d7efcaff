"""What a trained testbed model does, measured on the images of each of its worlds and written into its card."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from headlens.extraction import extract
from headlens.models import HookedCLIP
from headlens.testbed.files import images
from headlens.testbed.models import restore
from headlens.testbed.worlds import joint_vocabulary
from tools.testbed.measure_birds import measure_birds
from tools.testbed.measure_figures import measure_figures
from tools.testbed.recipes import Recipe

_MEASURES = {"birds": measure_birds, "figures": measure_figures}


def measure(recipe: Recipe, weights: Path, pictures: Path) -> dict[str, Any]:
    """The entries of a card that depend on the trained weights, and how to ask the model.

    Args:
        recipe: the recipe.
        weights: the folder that holds its weights, in the float16 in which they are shipped.
        pictures: a folder for the images, reused where it holds them.
    """
    clip = HookedCLIP.from_open_clip(
        *restore(weights / f"{recipe.name}.safetensors", recipe.worlds, recipe.size), name=recipe.name, copy=False
    )
    told = {}
    for world in recipe.worlds:
        manifest = images(pictures / world, world=world)
        with tempfile.TemporaryDirectory() as folder:
            store = extract(clip, manifest, Path(folder) / "store.zarr")
            told[world] = _MEASURES[world](recipe, clip, store)
    vocabulary = {"vocabulary": len(joint_vocabulary(recipe.worlds))}
    return vocabulary | (told["birds"] if recipe.worlds == ("birds",) else {"worlds": told})
