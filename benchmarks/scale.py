"""Claim: an audit's memory grows with images × what an image needs, not with heads × all classes, and answers quickly.

    python benchmarks/scale.py --images 50000 --classes 1000 [--folder DIR] [--json scale.json]
    python benchmarks/scale.py --images 50000 --classes 2
    python benchmarks/scale.py --images 10000 --classes 2 --model ViT-L-14   # with the model's own text tower

A store of random head states in ViT-L-14's shape (24 layers of 16 heads of 64, embeddings of 768 numbers, float16),
half of it for locating and half for scoring; labels and attribute are drawn, too. Without `--model` prompts are
embedded by a text tower of one narrow layer, since only what comes after them is measured.

Each step prints its seconds by the clock and of the processors, the latter over those of one pass over the head states
(`baseline`: the sum of the array, in the same run; other work on the machine lengthens both less than the clock), and
the largest memory of the process during the step beyond what it held once model and store were in memory (Linux:
`clear_refs` resets the peak).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from explorer_latency import random_model
from growth import machine
from store_size import write_store

import headlens as hl
from headlens import benchmark
from headlens.datasets import Dataset
from headlens.extraction import HeadStore
from headlens.models.open_clip_import import open_clip

SIZES = {"layer": 24, "head": 16, "d_head": 64, "embed": 768}
METHODS = ("ablation", "ltc")
PAIRS = [(f"a thing with {one}", f"a thing with {other}") for one, other in (("legs", "wheels"), ("wings", "fins"))]


def small_model() -> hl.HookedCLIP:
    """A model whose joint space is that of ViT-L-14, and whose towers are small."""
    torch.manual_seed(0)
    config = {
        "embed_dim": SIZES["embed"],
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "small.json").write_text(json.dumps(config), encoding="utf-8")
        open_clip().add_model_config(folder)
        model = open_clip().create_model("small", load_weights=False).eval()
    preprocess = open_clip().image_transform(32, is_train=False)
    return hl.HookedCLIP.from_open_clip(model, preprocess, open_clip().get_tokenizer("small"), name="small", copy=False)


def store_of(folder: Path, clip: hl.HookedCLIP, images: int) -> HeadStore:
    """The store, made where it is not there yet."""
    path = folder / f"{images}.zarr"
    if not (path / "complete.json").is_file():
        write_store(path, images, SIZES, "float16", fingerprint=clip.fingerprint)
    return HeadStore.open(path, clip)


def audit_of(clip: hl.HookedCLIP, store: HeadStore, classes: int) -> hl.Audit:
    """Classes and two values of an attribute that mostly goes with the class's number."""
    rng = np.random.default_rng(0)
    names = [f"thing {number}" for number in range(classes)]
    label = rng.integers(0, classes, len(store))
    place = np.where(rng.random(len(store)) < 0.8, label % 2, 1 - label % 2)
    table = store.manifest.assign(
        path=[f"{number}.png" for number in range(len(store))],
        label=np.asarray(names, dtype=object)[label],
        place=np.asarray(["land", "water"], dtype=object)[place],
        split=np.where(np.arange(len(store)) % 2 == 0, "val", "test"),
    )
    view = HeadStore(
        store.plan, table, store.basis, store._arrays, rows=store.rows, skipped=store.skipped, memory=store._memory,
        path=store.path,
    )  # fmt: skip
    attribute = hl.Attribute("place", {"land": "a photo of the land", "water": "a photo of the water"})
    return hl.Audit(clip, view, hl.ZeroShotTask(names, "a photo of a {}"), attribute, pairs=PAIRS)


def memory(name: str) -> int:
    """A line of this process's status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def measured(step: Callable[[], object], held: int) -> dict[str, float]:
    """Seconds by the clock and of the processors, and the peak of the process beyond `held` bytes."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    began = time.perf_counter(), time.process_time()
    step()
    clock, processor = time.perf_counter() - began[0], time.process_time() - began[1]
    return {"s": round(clock, 2), "processor s": round(processor, 2), "GB": round((memory("VmHWM") - held) / 1e9, 2)}


def steps_of(audit: hl.Audit, draws: int) -> dict[str, Callable[[], object]]:
    """What is measured, by name, in order."""
    heads = [(23, 3), (22, 5)]
    renamed = hl.ZeroShotTask(audit.task.classes, "a painting of a {}")
    data = Dataset(audit.store.manifest, audit.task.classes)
    suite = benchmark.Suite("scale", lambda _: data, audit.task.templates, audit.attribute, pairs=PAIRS)

    def another(number: int) -> hl.Audit:
        values = {"land": f"the land {number}", "water": f"the water {number}"}
        return audit.with_attribute(hl.Attribute("place", values))

    return {
        "locate": lambda: audit.locate("contrastive-full"),
        "score effect of every head": lambda: audit.scores("effect"),
        "a new attribute": lambda: another(1).locate("contrastive-full"),
        "a new attribute, concept score": lambda: another(2).scores("concept"),
        "the same, again": lambda: another(3).scores("concept"),
        "new classes": lambda: audit.asking(task=renamed).locate("contrastive-full"),
        "locate given heads": lambda: audit.locate(spurious=heads, salient=[(23, 8)]),
        "correct": lambda: [audit.correct(method) for method in METHODS],
        "evaluate without controls": lambda: audit.evaluate(n_random_sets=0, n_null=0, total=0),
        f"evaluate, {draws} sets for {' and '.join(METHODS)}": lambda: audit.evaluate(
            controls=METHODS, n_random_sets=draws, n_null=0, total=0
        ),
        f"fairness, {draws} sets": lambda: audit.fairness(heads, n_random_sets=draws, total=0, n_null=0),
        f"ablate, {draws} sets": lambda: audit.ablate(heads, n_random_sets=draws),
        "collateral": lambda: audit.collateral(heads=heads),
        f"benchmark, {draws} sets": lambda: benchmark.run(
            suite, audit.clip, data, audit.store, methods=METHODS, n_random_sets=draws
        ),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--model", help="a model of ViT-L-14's shape, for its text tower")
    parser.add_argument("--folder", type=Path, help="where the store is kept between runs")
    parser.add_argument("--steps", nargs="*", help="measure these alone, by the beginning of their names")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        clip = random_model(asked.model) if asked.model else small_model()
        store = store_of(asked.folder or Path(scratch), clip, asked.images)
        z = store._whole("z")
        arrays = [z, *(store._whole(name) for name in store.plan.names if name != "z")]
        audit = audit_of(clip, store, asked.classes)
        baseline = min(measured(lambda: z.sum(dtype=torch.float32), 0)["processor s"] for _ in range(3))
        held = memory("VmRSS")
        print(f"{len(store)} images, {asked.classes} classes, {machine()}, {torch.get_num_threads()} threads")
        print(f"arrays {sum(array.nbytes for array in arrays) / 1e9:.2f} GB, process {held / 1e9:.2f} GB")
        print(f"baseline, one pass over the head states: {baseline} s of processor time", flush=True)
        found = {}
        for name, step in steps_of(audit, asked.draws).items():
            if not asked.steps or any(name.startswith(one) for one in asked.steps):
                found[name] = measured(step, held)
                found[name]["ratio"] = round(found[name]["processor s"] / baseline, 1)
                print(name, *(f"{value} {unit}" for unit, value in found[name].items()), sep=", ", flush=True)
    if asked.json:
        record = {"images": asked.images, "classes": asked.classes, "machine": machine(), "baseline, s": baseline}
        asked.json.write_text(json.dumps(record | {"steps": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
