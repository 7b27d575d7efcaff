"""A tiny random tower and a folder of tiny images, for tests of what happens around a model."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from headlens.models.open_clip_import import open_clip
from headlens.models.vision_transformer import HookedVisionTransformer

LAYERS, HEADS, D_HEAD, EMBED, SIDE = 3, 5, 2, 7, 14


@dataclass
class TinyClip:
    vision: HookedVisionTransformer
    name: str = "tiny"
    fingerprint: str = "0123"
    device: torch.device = torch.device("cpu")  # noqa: RUF009

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        pixels = np.asarray(image.resize((SIDE, SIDE)), dtype=np.float32) / 127.5 - 1
        return torch.from_numpy(pixels).permute(2, 0, 1)


def tiny_clip(dtype: torch.dtype = torch.float32, seed: int = 0, pool: str = "tok") -> TinyClip:
    torch.manual_seed(seed)
    visual = open_clip().transformer.VisionTransformer(
        image_size=SIDE,
        patch_size=7,
        width=HEADS * D_HEAD,
        layers=LAYERS,
        heads=HEADS,
        mlp_ratio=1.7,
        output_dim=EMBED,
        pool_type=pool,
    )
    for parameter in visual.parameters():  # biases and gains start at 0 and 1, where a mistake would not show
        torch.nn.init.normal_(parameter, std=0.5)
    return TinyClip(HookedVisionTransformer.from_open_clip(visual.eval().to(dtype)), fingerprint=f"seed-{seed}")


def write_images(folder: Path, count: int, seed: int = 0) -> pd.DataFrame:
    """PNG and JPEG files of noise, and their manifest."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i}.{'jpg' if i % 3 == 0 else 'png'}" for i in range(count)]
    for name in names:
        height, width = rng.integers(9, 23, 2)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / name)
    frame = pd.DataFrame(
        {
            "path": names,
            "label": [("cat", "dog")[i % 2] for i in range(count)],
            "split": [("train", "val", "test")[i % 3] for i in range(count)],
            "place": [("in", "out")[i // 2 % 2] for i in range(count)],
        }
    )
    frame.attrs["root"] = str(folder)
    return frame


def pixels(clip: TinyClip, frame: pd.DataFrame) -> torch.Tensor:
    """The model's input, read without anything of headlens."""
    images = [Image.open(Path(frame.attrs["root"]) / path).convert("RGB") for path in frame["path"]]
    return torch.stack([clip.preprocess(image) for image in images])


def contents(path: Path) -> dict[str, bytes]:
    """Every file below a folder, but for locks."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and not file.name.startswith(".lock")
    }
