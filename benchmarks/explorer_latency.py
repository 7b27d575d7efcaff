"""How long each step of the explorer takes on a store in memory, from what is typed or clicked to what is shown.

    python benchmarks/explorer_latency.py --model ViT-B-16 --images 10000 --repeats 9 [--json latency.json]

A store of random head states in the model's shape, half of it for locating and half for scoring, and the model itself
with random weights: what a step takes depends on neither. Timed are the calls of `ExplorerState` that the widgets make,
figures and tables as the text that goes to the browser; the time on the way there is not in it.

Every repetition types prompts that were never embedded, so the text tower's work is in the numbers, and is told beside
them. Printed: median and worst by the clock, and the median of the processor's time, which other work on the machine
lengthens less. What happens once is distinguished: the first locating, and the embedding of the texts that heads are
explained by.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from growth import machine
from rates import photograph
from store_size import write_store

import headlens as hl
from headlens.explore import ExplorerState, tables
from headlens.models.open_clip_import import open_clip
from headlens.steps.texts import TextEmbeddings

Step = Callable[[int], object]


def random_model(name: str) -> hl.HookedCLIP:
    """The model with random weights."""
    torch.manual_seed(0)
    oc = open_clip()
    model = oc.create_model(name, load_weights=False).eval()
    preprocess = oc.image_transform(oc.get_model_config(name)["vision_cfg"]["image_size"], is_train=False)
    return hl.HookedCLIP.from_open_clip(model, preprocess, oc.get_tokenizer(name), name=name, copy=False)


def audit_of(clip: hl.HookedCLIP, images: int, folder: Path) -> hl.Audit:
    """A task of two classes by two backgrounds, over a store in memory."""
    photograph(folder / "photo.jpg")
    cfg = clip.vision.cfg
    sizes = {"layer": cfg.n_layers, "head": cfg.n_heads, "d_head": cfg.d_head, "embed": cfg.d_embed}
    paths = [str(folder / "photo.jpg")] * images
    store = write_store(folder / "acts.zarr", images, sizes, "float32", paths, clip.fingerprint)
    rng = np.random.default_rng(0)
    columns = {
        "label": rng.choice(["landbird", "waterbird"], images),
        "background": rng.choice(["land", "water"], images),
        "split": np.where(np.arange(images) % 2 == 0, "val", "test"),
    }
    store = store.with_manifest(store.manifest.assign(**columns))
    task = hl.ZeroShotTask(["landbird", "waterbird"], "a photo of a {}")
    background = hl.Attribute("background", {"land": "a photo of the land", "water": "a photo of the water"})
    return hl.Audit(clip, store, task, background)


def timed(step: Step, repeats: int) -> dict[str, float]:
    """Milliseconds: the median and the worst by the clock, and the processor's median."""
    step(-1)
    clock, processor = [], []
    for number in range(repeats):
        began = time.perf_counter(), time.process_time()
        step(number)
        clock.append(1000 * (time.perf_counter() - began[0]))
        processor.append(1000 * (time.process_time() - began[1]))
    return {
        "median": round(statistics.median(clock), 1),
        "worst": round(max(clock), 1),
        "processor": round(statistics.median(processor), 1),
    }


def steps_of(state: ExplorerState) -> dict[str, Step]:
    """What a person does, by name; each is told how often it was done before."""
    columns = ("landbird, waterbird", "waterbird, landbird")
    prompts = ("a photo of dry land {}", "a photo of open water {}")

    def shown() -> None:
        """Heatmap, located heads and group table."""
        state.heatmap().to_json()
        tables.question(state)
        tables.groups(state.zero_shot)

    def ask(number: int, score: str = "attribution") -> None:
        state.score = score
        dry, wet = (prompt.format(f"{score} {number}") for prompt in prompts)
        state.ask(f"scenery:dry={dry},wet={wet}")
        shown()

    def labelled(number: int) -> None:
        state.ask(f"background:land=the land {number},water=the water {number}")
        shown()

    def classes(number: int) -> None:
        state.ask(classes=columns[number % 2], templates=f"a picture {number} of a {{}}")
        shown()

    def embed(number: int) -> None:
        texts = TextEmbeddings(state.audit.clip.encode_text)  # type: ignore[union-attr]
        texts([prompt.format(number) for prompt in prompts])

    def score(name: str, **options: Any) -> Step:
        def switch(_: int) -> None:
            state.show(name, **options)
            state.heatmap().to_json()

        return switch

    def click(number: int) -> None:
        state.click((state.audit.store.n_layers - 1, (number + 1) % state.audit.store.n_heads))
        for figure in (state.heatmap(), state.textspans(), state.images()):
            figure.to_json()

    def tokens(number: int) -> None:
        state.choose_image(number + 1)
        state.tokens().to_json()

    def ablate(number: int) -> None:
        top = state.audit.store.n_layers - 1
        state.select([(top, (number + 1) % 5), (top, 6), (top - 1, 3)])
        tables.ablated(state.ablate())
        for figure in (state.accuracies(), *state.controls()):
            if figure is not None:
                figure.to_json()

    return {
        "a new attribute, inferred": ask,
        "a new attribute, inferred; score contrastive": lambda number: ask(number, "contrastive"),
        "a new attribute, inferred; score concept": lambda number: ask(number, "concept"),
        "a new attribute, inferred; score effect": lambda number: ask(number, "effect"),
        "a new attribute, labelled": labelled,
        "new classes": classes,
        "of these, embedding two prompts": embed,
        "switch to score attribution": score("attribution"),
        "switch to score contrastive": score("contrastive"),
        "switch to score concept": score("concept"),
        "switch to score effect": score("effect"),
        "click a head: texts, 12 images": click,
        "choose an image: token map": tokens,
        "ablate three heads, 100 random sets": ablate,
    }


def once(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return round(time.perf_counter() - began, 2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=None, help="torch threads; all cores without it")
    parser.add_argument("--texts", type=int, default=None, help="texts that heads are explained by; headlens' own bank")
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as scratch:
        clip = random_model(asked.model)
        audit = audit_of(clip, asked.images, Path(scratch))
        if asked.texts:
            bank = hl.prompts.default_bank()
            audit.question.bank = hl.prompts.TextBank(bank.texts[: asked.texts], bank.categories[: asked.texts])
        state: list[ExplorerState] = []
        seconds = {"open: read the store, locate": once(lambda: state.append(ExplorerState(audit)))}
        seconds[f"explain every head by {len(audit.data.bank)} texts"] = once(state[0].explain)
        record: dict[str, Any] = {
            "model": asked.model,
            "images": asked.images,
            "heads": f"{audit.store.n_layers} layers of {audit.store.n_heads}",
            "machine": machine(),
            "threads": torch.get_num_threads(),
            "repeats": asked.repeats,
            "once, s": seconds,
            "every time, ms": {name: timed(step, asked.repeats) for name, step in steps_of(state[0]).items()},
        }
    print("\n".join(f"{name}: {value}" for name, value in record.items() if isinstance(value, str | int)))
    print("\n".join(f"{name}: {value} s" for name, value in seconds.items()))
    print(pd.DataFrame(record["every time, ms"]).T.to_string())
    if asked.json:
        asked.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
