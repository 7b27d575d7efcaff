"""Growth curves: what extraction and projection cost as images, heads, tokens and prompts become more.

    python benchmarks/growth.py --out docs/images [--images 1000 3000 10000] [--repeats 5]

- Images: the testbed's model over a manifest of so many rows (its pictures, again and again), with extract and
  extract_moments, each in a process of its own. Time, the most memory that the process holds on top of what it held
  with the model loaded, and the space on disk.
- Heads: towers of as many layers as are asked for, of random weights: the head states of a batch, and the projection
  of a store in memory.
- Tokens: one tower on larger and larger images: the head states of a batch, beside open_clip's own forward.
- Prompts: the projection of a store in memory on more and more directions.

Written: `growth.json` with every number, and two plotly figures of three curves each, as PNG where kaleido is installed
and as HTML elsewhere. The machine is named by its cores and memory. Times are medians of rounds that go through all
sizes in turn, and are processor time on one core: it depends little on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from plotly.subplots import make_subplots

import headlens as hl
from headlens.models.open_clip_import import open_clip
from headlens.plots.palette import METHODS
from headlens.plots.style import finish
from headlens.states import HeadBasis
from headlens.states.projection import Projection


def machine() -> str:
    """Cores and memory, in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return f"{os.cpu_count()} cores, {memory:.0f} GB of memory, no GPU used"


def held(line: str) -> int:
    """What the kernel says of this process in bytes: VmRSS now, VmHWM at most since the mark was last cleared."""
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(entry for entry in status if entry.startswith(line)).split()[1])


def one_extraction(folder: str, count: int, keep: str) -> dict[str, float]:
    """In a process of its own: one extraction of `count` rows."""
    torch.set_num_threads(1)
    clip = hl.load("testbed")
    pictures = hl.read_manifest(Path(folder) / "images" / "manifest.csv")
    repeats = -(-count // len(pictures))
    manifest = pd.concat([pictures] * repeats, ignore_index=True)[:count].drop(columns="id")
    manifest.attrs = dict(pictures.attrs)
    with torch.inference_mode():  # buffers that are made once, whatever is extracted
        clip.vision.head_states(torch.randn(64, 3, *clip.vision.cfg.image_size))
    Path("/proc/self/clear_refs").write_text("5")
    before = held("VmRSS")
    target = Path(folder) / f"{keep}-{count}-{os.getpid()}"
    start = time.process_time()
    if keep == "moments":
        hl.extract_moments(clip, manifest, target, ["label", "background"], workers=1)
    else:
        hl.extract(clip, manifest, target, workers=1)
    seconds = time.process_time() - start
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file() and "parquet" not in file.name)
    return {"seconds": seconds, "memory": held("VmHWM") - before, "disk": size}


def by_images(counts: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """The curve over images, each point in processes of its own."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        hl.testbed.images(Path(folder) / "images", split="test", n=1000)
        found: dict[tuple[str, int], list[dict[str, float]]] = {}
        for _ in range(repeats):
            for keep in ("states", "moments"):
                for count in counts:
                    command = [sys.executable, __file__, "--one", folder, str(count), keep]
                    told = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
                    found.setdefault((keep, count), []).append(json.loads(told.stdout.splitlines()[-1]))
        for (keep, count), measured in found.items():
            medians = {name: statistics.median(one[name] for one in measured) for name in measured[0]}
            rows.append({"keep": keep, "images": count, **medians})
    return rows


def in_turn(work: dict[Any, Callable[[], object]], repeats: int) -> dict[Any, float]:
    """The median time of each, after a round that does not count."""
    times: dict[Any, list[float]] = {name: [] for name in work}
    with torch.inference_mode():
        for _ in range(repeats + 1):
            for name, one in work.items():
                start = time.process_time()
                one()
                times[name].append(time.process_time() - start)
    return {name: statistics.median(taken[1:]) for name, taken in times.items()}


def tower(layers: int, heads: int, image: int = 224, patch: int = 32) -> Any:
    """A tower of open_clip with random weights."""
    torch.manual_seed(0)
    visual = open_clip().transformer.VisionTransformer(
        image_size=image,
        patch_size=patch,
        width=heads * 64,
        layers=layers,
        heads=heads,
        mlp_ratio=4.0,
        output_dim=512,
    )
    return visual.eval()


def projection(layers: int, heads: int, images: int, directions: int) -> Callable[[], object]:
    """The projection of a store that is in memory."""
    torch.manual_seed(0)
    z, norm = torch.randn(images, layers, heads, 64), torch.ones(images)
    basis = HeadBasis.of_weights(torch.randn(layers, heads, 64, 512) / 23)
    texts = torch.randn(directions, 512)
    result = torch.empty(images, layers, heads, directions)
    return lambda: Projection(basis, texts).into(result, z, norm, norm, norm)


def by_heads(layers: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """The curve over heads: 12 a layer."""
    images = torch.randn(4, 3, 224, 224)
    visions = {count: hl.HookedVisionTransformer.from_open_clip(tower(count, 12)) for count in layers}
    states = in_turn({count: lambda v=vision: v.head_states(images) for count, vision in visions.items()}, repeats)
    projected = in_turn({count: projection(count, 12, 1000, 2) for count in layers}, repeats)
    return [
        {"heads": 12 * count, "seconds_states": states[count] / 4, "seconds_project": projected[count] / 1000}
        for count in layers
    ]


def by_tokens(sides: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """The curve over tokens: a tower of 6 layers of 6 heads, patches of 16."""
    work: dict[Any, Callable[[], object]] = {}
    for side in sides:
        visual = tower(6, 6, side, 16)
        vision = hl.HookedVisionTransformer.from_open_clip(visual)
        pixels = torch.randn(4, 3, side, side)
        work[side, "seconds_forward"] = lambda v=visual, x=pixels: v(x)
        work[side, "seconds_states"] = lambda v=vision, x=pixels: v.head_states(x)
    times = in_turn(work, repeats)
    return [
        {"tokens": (side // 16) ** 2 + 1}
        | {name: times[side, name] / 4 for name in ("seconds_forward", "seconds_states")}
        for side in sides
    ]


def by_prompts(counts: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """The curve over directions: ViT-B's shape."""
    times = in_turn({count: projection(12, 12, 1000, count) for count in counts}, repeats)
    return [{"prompts": count, "seconds_project": times[count] / 1000} for count in counts]


def draw(record: dict[str, Any], out: Path) -> None:
    """Two figures of three panels: against images, and against what a tower and a question are made of."""
    images = pd.DataFrame(record["images"])
    panels = (
        ("memory", 1e6, "memory added (MB)"),
        ("disk", 1e6, "space on disk (MB)"),
        ("seconds", 1.0, "processor time (s)"),
    )
    figure = make_subplots(1, 3, subplot_titles=[title for _, _, title in panels])
    for place, (column, unit, _) in enumerate(panels, 1):
        for number, (keep, part) in enumerate(images.groupby("keep", sort=False)):
            figure.add_scatter(
                x=part["images"],
                y=part[column] / unit,
                name=str(keep),
                mode="lines+markers",
                line_color=METHODS[number + 1],
                showlegend=place == 1,
                col=place,
                row=1,
            )
    figure.update_xaxes(title="images", rangemode="tozero", nticks=4)
    figure.update_yaxes(rangemode="tozero")
    save(figure, "Extraction, as images become more", out / "growth-images")

    names = {
        "seconds_states": "head states",
        "seconds_forward": "open_clip's forward",
        "seconds_project": "projection",
    }
    curves = (("heads", "heads"), ("tokens", "tokens"), ("prompts", "directions"))
    figure = make_subplots(1, 3, subplot_titles=[f"processor ms an image, by {axis}" for _, axis in curves])
    seen: set[str] = set()
    for place, (curve, axis) in enumerate(curves, 1):
        frame = pd.DataFrame(record[curve])
        for column in frame.columns[1:]:
            figure.add_scatter(
                x=frame[curve],
                y=frame[column] * 1000,
                name=names[column],
                mode="lines+markers",
                line_color=METHODS[list(names).index(column) + 1],
                showlegend=column not in seen,
                col=place,
                row=1,
            )
            seen.add(column)
        figure.update_xaxes(title=axis, type="log", col=place, row=1, tickvals=frame[curve].tolist())
    figure.update_yaxes(type="log", dtick=1)
    save(figure, "Head states and projections, as towers and questions grow", out / "growth-cost")


def save(figure: Any, title: str, path: Path) -> None:
    finish(figure, title, f"Three curves: {title}.", plot=(300, 760), margin={"t": 50}, width=1000, legend_y=-0.4)
    figure.update_layout(margin={"t": 90, "b": 90})
    try:
        figure.write_image(path.with_suffix(".png"), scale=1.5)
    except (ValueError, RuntimeError):
        figure.write_html(path.with_suffix(".html"), include_plotlyjs="cdn")


def main() -> None:
    """Measure, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 3000, 10_000])
    parser.add_argument("--layers", type=int, nargs="+", default=[3, 6, 12, 24])
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 224, 336])
    parser.add_argument("--prompts", type=int, nargs="+", default=[1, 2, 10, 100, 1000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--runs", type=int, default=2, help="extractions a point")
    parser.add_argument("--draw", action="store_true", help="draw what growth.json in --out holds, and measure nothing")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.one:
        folder, count, keep = asked.one
        print(json.dumps(one_extraction(folder, int(count), keep)))
        return
    if asked.draw:
        draw(json.loads((asked.out / "growth.json").read_text(encoding="utf-8")), asked.out)
        return
    record = {
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "heads": by_heads(asked.layers, asked.repeats),
        "tokens": by_tokens(asked.sides, asked.repeats),
        "prompts": by_prompts(asked.prompts, asked.repeats),
        "images": by_images(asked.images, asked.runs),
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "growth.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw(record, asked.out)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
