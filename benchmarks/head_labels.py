"""Which heads are labelled: the planted ones of the testbed's models, and those of towers of random weights.

A random tower has the shape of the birds' testbed, and normal weights with the trained ones' deviations, tensor by
tensor; its seeds are others than those that the rule was chosen with (0 to 11). Labels are chosen on the split val and
tested on the split test. Of a planted head's label the AUROC is given with which its pair of texts distinguishes the
planted attribute on the test images, from the embedding without the head. Then the label by the attribute: of the
planted heads as if they had been selected, of every head as if it had been, and of the heads that each locator selects.

The synthetic tower has the size of ViT-L-14 (24 layers of 16 heads of 64, 768 numbers): every eighth head writes one of
24 topics as the image has it, the others write mixtures of the same topics along random directions; the bank of 3,500
texts describes these topics and 76 others.

    python benchmarks/head_labels.py --images 1200 --random 12
    python benchmarks/head_labels.py --seed 1 --bank half   # other images, and every second text of the bank
    python benchmarks/head_labels.py --seed 2 --bank words  # another bank: every word that the model knows
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from store_size import write_store
from torch.nn.functional import normalize

import headlens as hl
from headlens.errors import NothingLocatedError
from headlens.explain import AttributeEncoding, Explanation, among_selected, explain_heads

MODELS = (
    ("testbed", "birds"), ("testbed-birds-1", "birds"), ("testbed-birds-2", "birds"), ("testbed-plain", "birds"),
    ("testbed-figures", "birds"), ("testbed-figures", "figures"),
)  # fmt: skip
FIRST_SEED = 100
LOCATORS = ("contrastive", "calibrated", "concept", "concept+textspan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--random", type=int, default=12, help="towers of random weights")
    parser.add_argument("--seed", type=int, default=0, help="of the images; the random towers' seeds follow it")
    parser.add_argument("--bank", choices=("own", "half", "words"), default="own")
    parser.add_argument("--synthetic", type=int, default=1, help="synthetic towers of real size")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for world in dict.fromkeys(world for _, world in MODELS):
            hl.testbed.images(folder / world, n=options.images, world=world, seed=options.seed)
        found: dict[str, object] = {
            f"{name}, {world}": measured(name, world, folder, options) for name, world in MODELS
        }
        first = FIRST_SEED * (1 + options.seed)
        for name, world in (("testbed", "birds"), ("testbed-figures", "figures")):
            towers = Counter(towers=options.random)
            for seed in range(first, first + options.random):
                towers.update(random_tower(seed, name, world, folder, options.bank))
            found[f"random, as {name} on {world}"] = towers
        for seed in range(options.synthetic):
            found[f"synthetic {seed}"] = synthetic(10 * options.seed + seed, folder)
    print(json.dumps(found, indent=1, ensure_ascii=False))


def measured(name: str, world: str, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """How many heads of a testbed model are labelled, and the labels of the planted ones."""
    clip, card = hl.load(name), hl.testbed.card(name, world)
    audit = audit_of(clip, card, folder / world, folder / f"{name}-{world}.zarr", options.bank)
    explained, planted = audit.explain(n_bootstrap=0), [hl.HeadId(*head) for head in card["planted_heads"]]
    chosen = by_attribute(audit, planted)
    return {
        "heads": len(explained),
        "labelled": sum(one.pole is not None for one in explained.values()),
        "planted": {
            str(head): [explained[head].label, named(audit, explained[head]), *by_attribute_of(chosen[head])]
            for head in planted
        },
        "by the attribute": counts(audit),
        "ablated": own_task(audit, explained),
        "first text above random directions": sum(one.share[0] > one.chance[0] for one in explained.values()),
    }


def own_task(audit: hl.Audit, explained: Mapping[hl.HeadId, Explanation]) -> dict[str, float | int]:
    """What ablating each labelled head changes in the task of its own label, and in those of the others' labels.

    The task asks of each test image whether it is nearer to the label's first text than half of the images are; changed
    is the share of images that answer otherwise once the head's contribution is its reference mean.
    """
    pairs = {head: one.pole.name for head, one in explained.items() if one.pole is not None}
    if len(pairs) < 2:
        return {"labelled": len(pairs)}
    with torch.no_grad():
        high, low = (audit.clip.encode_text([pair[end] for pair in pairs.values()], normalize=True) for end in (0, 1))
    test, reference = audit.data.test, audit.data.reference
    scores = test.embedding @ (high - low).T
    answers = scores > scores.median(0).values
    own, others, first = [], [], 0
    for place, head in enumerate(pairs):
        mean = reference.project_head(*head, high - low).mean(0)
        ablated = scores - test.project_head(*head, high - low) + mean
        changed = ((ablated > scores.median(0).values) != answers).float().mean(0)
        rest = torch.cat([changed[:place], changed[place + 1 :]])
        own.append(float(changed[place]))
        others.append(float(rest.mean()))
        first += bool(changed[place] > rest.mean())
    return {
        "labelled": len(pairs), "own task": round(float(np.mean(own)), 3), "others": round(float(np.mean(others)), 3),
        "own above others": first,
    }  # fmt: skip


def by_attribute(audit: hl.Audit, heads: Sequence[hl.HeadId]) -> dict[hl.HeadId, AttributeEncoding]:
    """How heads encode the attribute, as if they had been selected for it."""
    return {one.head: one for one in among_selected([audit.encoding(head) for head in heads])}


def by_attribute_of(one: AttributeEncoding) -> list[object]:
    return [one.named, round(one.separation.difference, 2), round(one.alignment, 2), round(one.q or 0.0, 4)]


def counts(audit: hl.Audit) -> Counter[str]:
    """Heads that each locator selects, and how many of these are labelled by the attribute; "all" selects every one."""
    selected = {"all": list(audit.explanations)}
    for locator in LOCATORS:
        with suppress(NothingLocatedError):
            audit.locate(locator)
            selected[locator] = [hl.HeadId(*head) for head in audit.location.spurious]
    return Counter(
        {f"{name}, selected": len(heads) for name, heads in selected.items()}
        | {
            f"{name}, labelled": sum(one.named for one in by_attribute(audit, heads).values())
            for name, heads in selected.items()
        }
    )


def named(audit: hl.Audit, one: Explanation) -> float | None:
    """The AUROC of a label's pair of texts for the attribute's values, by the embedding without the head."""
    if one.pole is None or one.pole.name is None:
        return None
    test, values = audit.store.subset(split="test"), list(audit.attribute.values)
    with torch.no_grad():
        high, low = audit.clip.encode_text(list(one.pole.name), normalize=True)
    scores = (test.embedding - test.heads(*one.head)) @ (high - low)
    area = roc_auc_score(test.manifest[audit.attribute.name].astype(str) == values[1], scores.numpy())
    return round(max(area, 1 - area), 2)


def random_tower(seed: int, name: str, world: str, folder: Path, bank: str) -> Counter[str]:
    """Heads of a tower of random weights, and how many are labelled by their poles and by the attribute."""
    clip = hl.load(name)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in clip.vision.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * weight.std())
    audit = audit_of(clip, hl.testbed.card(name, world), folder / world, folder / f"random-{name}-{seed}.zarr", bank)
    explained = audit.explain(n_bootstrap=0)
    labelled = sum(one.pole is not None for one in explained.values())
    return Counter({"heads": len(explained), "labelled": labelled} | counts(audit))


def audit_of(clip: hl.HookedCLIP, card: dict, images: Path, store: Path, bank: str) -> hl.Audit:
    """An audit whose bank is headlens' own in the words that the model knows, every second text of it, or another."""
    known = clip.tokenizer.words
    texts = hl.prompts.default_bank().within(known)
    if bank == "half":
        texts = texts.take(range(1, len(texts), 2))
    elif bank == "words":
        words = sorted(known)
        texts = hl.prompts.TextBank([f"a photo of {word}" for word in words], ["words"] * len(words))
    task = hl.ZeroShotTask(card["classes"], card["templates"])
    asked = hl.Attribute(card["attribute"]["name"], card["attribute"]["values"])
    return hl.Audit(clip, hl.extract(clip, images / "manifest.csv", store), task, asked, bank=texts)


def synthetic(seed: int, folder: Path) -> dict[str, int]:
    """Planted and other heads of a tower of real size that are labelled, and planted ones labelled by their topic."""
    sizes = {"layer": 24, "head": 16, "d_head": 64, "embed": 768}
    images, topics, others, noise = 1000, 24, 76, 0.5
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=g)

    directions = normalize(draw(topics + others, 768), dim=1)
    texts, names = [], []
    for topic, direction in enumerate(directions):
        for number in range(35):
            sign = 1 if number % 2 else -1
            texts.append(sign * direction + noise * normalize(draw(768), dim=0) + 0.7)
            names.append(f"topic {topic} {'more' if sign > 0 else 'less'} {number}")
    bank = SimpleNamespace(texts=tuple(names), categories=tuple(name.rsplit(" ", 2)[0] for name in names))
    latent, spread = draw(images, topics), torch.arange(1, 65) ** -1.0
    z, weights = draw(images, 24, 16, 64) * spread, draw(24, 16, 64, 768) / 768**0.5
    planted = {hl.HeadId(place // 16, place % 16): place // 8 % topics for place in range(0, 384, 8)}
    for layer in range(24):
        for head in range(16):
            topic = planted.get(hl.HeadId(layer, head))
            z[:, layer, head, 0] += latent @ draw(topics) / topics**0.5 if topic is None else latent[:, topic]
            if topic is not None:
                weights[layer, head, 0] = directions[topic]
    contributions = sum(z[:, layer].flatten(1) @ weights[layer].flatten(0, 1) for layer in range(24))
    embedding = contributions + 3 * latent @ directions[:topics] + 0.3 * draw(images, 768)
    arrays = {"z": z, "embedding": embedding}
    store = write_store(folder / f"synthetic-{seed}.zarr", images, sizes, "float32", weights=weights, arrays=arrays)
    half = np.arange(images) % 2 == 0
    seen, unseen = store.subset(np.flatnonzero(half)), store.subset(np.flatnonzero(~half))
    explained = explain_heads(seen, bank, torch.stack(texts), 20, held_out=unseen, draws=0)
    labelled = {head: one.label for head, one in explained.items() if one.pole is not None}
    return {
        "heads": len(explained),
        "planted": len(planted),
        "planted and labelled": sum(head in labelled for head in planted),
        "labelled by their topic": sum(
            {text.rsplit(" ", 2)[0] for text in labelled.get(head, "").split(" ↔ ")} == {f"topic {topic}"}
            for head, topic in planted.items()
        ),
        "others labelled": sum(head not in planted for head in labelled),
    }


if __name__ == "__main__":
    main()
