"""A tower for tests of many machines: what travels to a worker needs torch alone there, so that workers start soon."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from headlens.states.head_states import HeadStates

LAYERS, HEADS, D_HEAD, EMBED, SIDE = 3, 5, 2, 7, 14


class Sketch:
    """Head states from fixed random maps of the pixels, and something unheard-of on the way.

    At the n-th batch of a process it dies by "die", once in all, and by "always", each time; by "dawdle" it says which
    machine it is on and then waits until `go` appears beside that. Weights are asked of the tower that it stands for,
    and stay where that is.
    """

    def __init__(self, tower: object, folder: Path, at: int = -1, act: str = "nothing"):
        self.tower, self.folder, self.left, self.act = tower, folder, at, act

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") or name == "tower":
            raise AttributeError(name)
        return getattr(self.tower, name)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "tower"}

    def head_states(self, images: torch.Tensor) -> HeadStates:
        self.left -= 1
        if self.act == "dawdle":
            self._dawdle()
        if self.left == 0 and self.act in ("die", "always"):
            self._die()
        maps = torch.Generator().manual_seed(0)

        def part(*shape: int) -> torch.Tensor:
            weights = torch.randn(images[0].numel(), int(np.prod(shape)), generator=maps)
            return (images.flatten(1) @ weights).reshape(len(images), *shape)

        return HeadStates(
            z=part(LAYERS, HEADS, D_HEAD),
            scale=part(1),
            shift=part(1),
            mlps=part(LAYERS, EMBED),
            stem=part(EMBED),
            pool=part(EMBED) * 0,
            embedding=part(EMBED),
        )

    def _die(self) -> None:
        try:
            (self.folder / "died").touch(exist_ok=self.act == "always")
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    def _dawdle(self) -> None:
        import ray

        (self.folder / ray.get_runtime_context().get_node_id()).touch()
        for _ in range(6000):
            if (self.folder / "go").exists():
                return
            time.sleep(0.05)


def preprocess(image: Image.Image) -> torch.Tensor:
    pixels = np.asarray(image.resize((SIDE, SIDE)), dtype=np.float32) / 127.5 - 1
    return torch.from_numpy(pixels).permute(2, 0, 1)


def sketched(clip: object, folder: Path, at: int = -1, act: str = "nothing") -> SimpleNamespace:
    """A model as far as extraction uses one."""
    return SimpleNamespace(
        vision=Sketch(clip.vision, folder, at, act),
        preprocess=preprocess,
        name="sketch",
        fingerprint="0123",
        device=torch.device("cpu"),
    )
