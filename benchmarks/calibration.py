"""How often are claims false, found and covered? Synthetic heads with a known answer, at two sizes.

Heads add to class scores: heavy-tailed scales that grow with the layer, some heads that carry an attribute into the
score, some that carry the class. Four parts, each seeded:

- *locators*: heads named, recall and precision of every locator on class scores, and how often a head is named where
  nothing is planted or the attribute was permuted within the true classes;
- *verdicts*: how often a correction (mean ablation of the located heads) is called supported, and the same heads a
  focal bias, in planted worlds and under nulls: attribute permuted within classes, noise that goes with the class,
  independent noise, tiny groups, class labels permuted, an untrained tower (no head carries anything);
- *controls*: how often random 'located' sets pass the control, in a world with two planted heads;
- *intervals*: coverage of nominal 95 % intervals of worst group, gap and Cramér's V.

    python benchmarks/calibration.py --runs 100 --folder calibration --page docs/calibration.md

A part whose rows are in the folder is not run again. The generator is additive, which favours locators that read
direct effects: the testbed's models are the other test.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from headlens.errors import HeadlensError
from headlens.heads import HeadId
from headlens.locate import LOCATORS, HeadEffects, calibrated_from_margins, margins_of
from headlens.metrics import association_change, permute_attribute
from headlens.metrics.intervals import largest_gap, lowest, v_interval
from headlens.steps.controls import Draw, Scored, random_head_control
from headlens.steps.verdicts import (
    Bias,
    FairnessRule,
    Judged,
    Measured,
    against_random,
    chance_agreement,
    judge,
    judge_fairness,
)

SIZES = {"4 × 8": (4, 8), "24 × 16": (24, 16)}
NULLS = ("permuted within class", "noise with the class", "independent noise", "class labels permuted")
FINDERS = {**LOCATORS, "calibrated": calibrated_from_margins}


@dataclass(frozen=True)
class Sample:
    """Images of a world: parts of heads and whole scores, [image layer head class] and [image class]."""

    heads: torch.Tensor
    logits: torch.Tensor
    labels: torch.Tensor
    values: torch.Tensor

    def told(self, null: str, generator: np.random.Generator) -> Sample:
        """The same images under a null."""
        labels, values = self.labels.numpy(), self.values.numpy()
        if null == "permuted within class":
            values = permute_attribute(labels, values, None, generator)
        elif null == "noise with the class":
            values = np.where(generator.random(len(labels)) < 0.75, labels % 2, 1 - labels % 2)
        elif null == "independent noise":
            values = generator.integers(0, 2, len(labels))
        elif null == "class labels permuted":
            labels = generator.permutation(labels)
        return Sample(self.heads, self.logits, torch.from_numpy(labels.copy()), torch.from_numpy(values.copy()))


class World:
    """Which heads do what, and how strongly."""

    def __init__(
        self,
        generator: np.random.Generator,
        shape: tuple[int, int],
        spurious: int,
        strength: float = 1.6,
        of_class: float = 1.5,
    ):
        layers, per_layer = shape
        scale = np.exp((np.arange(layers) - layers + 1) / 3.0)[:, None] * generator.lognormal(0, 0.7, shape)
        self.scale = scale / np.sqrt((scale**2).sum())
        late = [(i, j) for i in range(max(0, layers - 6), layers) for j in range(per_layer)]
        chosen = [late[i] for i in generator.permutation(len(late))[: spurious + 4]]
        self.spurious, self.true = chosen[:spurious], chosen[spurious:]
        self.strength, self.of_class = strength, of_class

    def sample(self, generator: np.random.Generator, images: int, correlation: float, classes: int = 2) -> Sample:
        """Images of which this share has the attribute's value that goes with the class."""
        labels = generator.integers(0, classes, images)
        values = np.where(generator.random(images) < correlation, labels % 2, 1 - labels % 2)
        x = generator.standard_normal((images, *self.scale.shape, classes), dtype=np.float32)
        x *= (self.scale / np.sqrt(2)).astype(np.float32)[..., None]
        rows, goes = np.arange(images), np.where(np.arange(classes) % 2 == values[:, None], 0.5, -0.5)
        for i, j in self.spurious:
            x[:, i, j] += self.strength / len(self.spurious) * goes
        for i, j in self.true:
            x[rows, i, j, labels] += self.of_class / len(self.true)
        logits = x.sum((1, 2)) + generator.normal(0, 0.2, (images, classes)).astype(np.float32)
        return Sample(*map(torch.from_numpy, (x, logits, labels, values)))


def named(finder: str, seen: Sample) -> list[HeadId]:
    """The spurious heads of a locator; none where it refuses."""
    try:
        found = FINDERS[finder](*margins_of(seen.heads, seen.logits, seen.labels), seen.values != seen.labels % 2)
    except HeadlensError:
        return []
    return list(found.spurious)


def locators(runs: int, size: str) -> list[dict[str, object]]:
    """Recall, precision, and names where none are due, of every locator."""
    rows = []
    late = 6 * SIZES[size][1]
    planted = [k for k in (1, 2, 4, 8, 16) if k + 4 <= min(late, SIZES[size][0] * SIZES[size][1]) // 2]
    cells = [(f"{k} planted", k, 1.6, 1200, 2, "") for k in planted]
    cells += [("4 planted, 150 images", 4, 1.6, 150, 2, ""), ("4 planted, 10 classes", 4, 1.6, 1500, 10, "")]
    cells += [("nothing planted", 4, 0.0, 1200, 2, ""), ("permuted within class", 4, 1.6, 1200, 2, NULLS[0])]
    for name, k, strength, images, classes, null in cells:
        found: dict[str, list[tuple[int, float, float]]] = {finder: [] for finder in FINDERS}
        for seed in range(runs):
            generator = np.random.default_rng([seed, 1])
            world = World(generator, SIZES[size], k, strength)
            seen = world.sample(generator, images, 0.75, classes).told(null, generator)
            truth = set(world.spurious) if strength and not null else set()
            for finder in FINDERS:
                heads = set(named(finder, seen))
                hits = len(heads & truth)
                found[finder].append((len(heads), hits / max(len(truth), 1), hits / len(heads) if heads else np.nan))
        for finder, numbers in found.items():
            count, recall, precision = np.array(numbers).T
            rows.append(
                {
                    "size": size,
                    "world": name,
                    "locator": finder,
                    "heads": float(count.mean()),
                    "any": float((count > 0).mean()),
                    "recall": float(recall.mean()),
                    "precision": None if np.isnan(precision).all() else float(np.nanmean(precision)),
                    "runs": runs,
                }
            )
    return rows


@dataclass(frozen=True)
class Answers:
    """What the verdicts say of one sample.

    Attributes:
        correction: of the mean ablation.
        fairness: of the same heads.
        gained: whether worst-group accuracy alone would have been called better by more than 5 points.
    """

    correction: str
    fairness: str
    gained: bool


def verdict(finder: str, seen: Sample, test: Sample, shape: tuple[int, int], seed: int) -> Answers:
    """The verdicts on mean ablation of the heads that are located on one sample, scored on another; controls are drawn
    only where all else holds."""
    heads = tuple(named(finder, seen))
    effects = HeadEffects.of(test.logits, test.heads, seen.heads)
    labels, values = test.labels.numpy(), test.values.numpy()
    groups = np.array([f"{c}/{v}" for c, v in zip(labels, values, strict=True)])
    control = None

    def predict(cast: dict) -> np.ndarray:
        return effects.without(cast["spurious"]).argmax(-1).numpy()

    before, after = test.logits.argmax(-1).numpy(), predict({"spurious": heads})
    scored = Scored(labels, values, groups)
    measured = Measured.of(scored, before, after, seed=seed)
    judged = Judged("ablation", True, len(heads), heads)

    def fairness() -> str:
        if measured.dependence is None or measured.removed is None:
            return "not asked"
        change = association_change(labels, after, baseline=before, attribute=values)
        bias = Bias("attribute", change, measured.dependence, measured.removed, chance_agreement(labels, after))
        return judge_fairness(bias, heads, shape[0] * shape[1], control, FairnessRule()).word

    found, focal = judge(judged, measured, None), fairness()
    if found.word != "not supported" or focal == "inconclusive":
        draw, located = Draw(*shape, 100, seed), {"spurious": heads}
        control = random_head_control("ablation", located, predict, scored, draw, before=before, after=after)
        found, focal = judge(judged, measured, control), fairness()
    return Answers(found.word, focal, bool(heads) and measured.gain > found.minimum_gain)


def verdicts(runs: int, size: str) -> list[dict[str, object]]:
    """How often each answer comes out."""
    rows = []
    cells = [(f"planted, {n} images", 1.6, n, "") for n in (1600, 400)]
    cells += [("nothing planted", 0.0, 800, ""), ("untrained", 0.0, 800, "")]
    cells += [(null, 1.6, 800, null) for null in NULLS]
    cells += [("permuted within class, tiny groups", 1.6, 60, NULLS[0])]
    for name, strength, images, null in cells:
        given: dict[str, list[Answers]] = {"contrastive": [], "calibrated": []}
        for seed in range(runs):
            generator = np.random.default_rng([seed, 2])
            world = World(generator, SIZES[size], 2, strength, 0.0 if name == "untrained" else 1.5)
            seen = world.sample(generator, 1200, 0.75).told(null, generator)
            test = world.sample(generator, images, 0.5).told(null, generator)
            for finder, answers in given.items():
                answers.append(verdict(finder, seen, test, SIZES[size], seed))
        for finder, answers in given.items():
            corrections, biases = ([getattr(one, what) for one in answers] for what in ("correction", "fairness"))
            counts = {word: corrections.count(word) for word in ("supported", "inconclusive", "not supported")}
            counts |= {"focal": biases.count("focal"), "gain > 5": sum(one.gained for one in answers)}
            rows.append({"size": size, "world": name, "locator": finder, **counts, "runs": runs})
    return rows


PATTERNS = {"1 head": (1,), "2 in one layer": (2,), "3 in one layer": (3,), "2 + 1": (2, 1), "2 + 2": (2, 2)}


def controls(runs: int, size: str) -> list[dict[str, object]]:
    """How often random 'located' sets of the last layers, where heads are strongest, get p ≤ .05, and pass."""
    rows = []
    for name, pattern in PATTERNS.items():
        low = dict.fromkeys(("worst_group", "dependence"), 0)
        passed = dict(low)
        for seed in range(runs):
            generator = np.random.default_rng([seed, 4])
            world = World(generator, SIZES[size], 2)
            seen, test = world.sample(generator, 600, 0.75), world.sample(generator, 800, 0.5)
            last, per_layer = SIZES[size][0] - 1, SIZES[size][1]
            chosen = tuple(
                HeadId(last - back, int(head))
                for back, count in enumerate(pattern)
                for head in generator.choice(per_layer, count, replace=False)
            )
            effects = HeadEffects.of(test.logits, test.heads, seen.heads)
            groups = np.array([f"{c}/{v}" for c, v in zip(test.labels, test.values, strict=True)])
            scored = Scored(test.labels.numpy(), test.values.numpy(), groups)

            def predict(cast: dict, effects: HeadEffects = effects) -> np.ndarray:
                return effects.without(cast["spurious"]).argmax(-1).numpy()

            found = random_head_control(
                "ablation",
                {"spurious": chosen},
                predict,
                scored,
                Draw(*SIZES[size], 100, seed),
                before=test.logits.argmax(-1).numpy(),
                after=predict({"spurious": chosen}),
            )
            for measure in low:
                assert found is not None
                low[measure] += found.comparison(measure).p <= 0.05  # type: ignore[arg-type]
                passed[measure] += against_random(found, measure, 0.05).outcome == "met"  # type: ignore[arg-type]
        for measure in low:
            counts = {"p ≤ .05": low[measure], "passed": passed[measure], "runs": runs}
            rows.append({"size": size, "pattern": name, "measure": measure.replace("_", " "), **counts})
    return rows


def intervals(runs: int, _: str = "") -> list[dict[str, object]]:
    """Coverage of the intervals, over 20 × runs data sets a cell."""
    rows, draws = [], 20 * runs
    generator = np.random.default_rng(3)
    for images in (10, 30, 100, 400):
        for high in (0.5, 0.8, 0.95):
            for low in (high, high - 0.2):
                truth = np.array([low, high, high, high])
                n = np.full((draws, 4), float(images))
                correct = generator.binomial(images, truth, (draws, 4)).astype(float)
                ends = {"worst group": (lowest(correct, n), low)}
                ends["gap"] = (largest_gap(correct, n, np.full(4, 0.25)), float(truth.mean() - low))
                for measure, ((bottom, top), value) in ends.items():
                    covered = (bottom <= value + 1e-9) & (value <= top + 1e-9)
                    cell = f"{images} images a group, {low:.2f} and three of {high:.2f}"
                    rows.append(_coverage(measure, cell, covered, np.asarray(top - bottom)))
    for images in (60, 200, 1000):
        for columns in (2, 5):
            for tilt in (0.0, 0.3):
                shares = np.full((2, columns), 0.5 / columns)
                shares[0, 0] += tilt * shares[0, 0]
                shares[1, 0] -= tilt * shares[1, 0]
                shares[0, 1] -= tilt * shares[0, 1]
                shares[1, 1] += tilt * shares[1, 1]
                expected = shares.sum(1, keepdims=True) * shares.sum(0, keepdims=True)
                value = float(np.sqrt(((shares - expected) ** 2 / expected).sum()))
                tables = generator.multinomial(images, shares.ravel(), draws).reshape(draws, 2, columns)
                bottom, top = v_interval(tables.astype(float))
                covered = (bottom <= value + 1e-9) & (value <= top + 1e-9)
                cell = f"{images} images, 2 × {columns}, V = {value:.2f}"
                rows.append(_coverage("Cramér's V", cell, covered, np.asarray(top - bottom)))
    return rows


def _coverage(measure: str, cell: str, covered: np.ndarray, width: np.ndarray) -> dict[str, object]:
    return {
        "measure": measure,
        "cell": cell,
        "coverage": float(covered.mean()),
        "width": float(width.mean()),
        "data sets": len(covered),
    }


PARTS: dict[str, Callable[[int, str], list[dict[str, object]]]] = {
    "locators": locators,
    "verdicts": verdicts,
    "controls": controls,
    "intervals": intervals,
}


TEXTS = {
    "verdicts": "## Verdicts\n\nMean ablation of the located heads. In the planted worlds *supported* is the correct "
    "answer; in all others it is a false claim. `focal` is the fairness verdict on the same heads. 1,200 reference "
    "images; 800 scored ones, 60 with tiny groups, or as named. *untrained*: no head carries anything. `gain > 5`: "
    "runs in which worst-group accuracy rises by more than 5 points.",
    "controls": "## Random-head control\n\nRandom 'located' sets of the last layers in a world with two planted heads: "
    "how many get p ≤ .05, of 5 % by the nominal level, and how many pass the verdict's condition, which also asks "
    "that pooled layers favour no sets of the located ones. Located and drawn sets are exchangeable here, so that 5 % "
    "holds by construction but for pooled layers: 100 runs give 1 to 9 in 95 % of the rows.",
    "locators": "## Locators\n\n`any` is the share of runs in which a head was named; a locator that refuses names "
    "none. Precision is over the runs that name one. The ten classes have 1,500 images, the other worlds "
    "1,200 or as named.",
    "intervals": "## Intervals\n\nCoverage of nominal 95 % intervals, of four groups or a table, and their mean width.",
}


def page(found: dict[str, list[dict[str, object]]]) -> str:
    """The docs page of these parts."""
    parts = [
        "# Calibration",
        "How often claims are false, found and covered, on synthetic heads with a known answer. Written by "
        "`benchmarks/calibration.py`; its generator is additive, which favours locators that read direct effects.",
    ]
    for part, rows in found.items():
        parts += [TEXTS[part], _table(rows)]
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[dict[str, object]]) -> str:
    def written(value: object) -> str:
        return "–" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)

    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([written(row[name]) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--folder", type=Path, default=Path("calibration"), help="where the rows are kept")
    parser.add_argument("--page", type=Path, help="the page to write once all parts are there")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, object]]] = {}
    for part in options.parts:
        found[part] = []
        for size in ["all"] if part == "intervals" else options.sizes:
            kept = options.folder / f"{part}-{size.replace(' × ', 'x')}.json"
            if not kept.exists():
                kept.write_text(json.dumps(PARTS[part](options.runs, size)))
            found[part] += json.loads(kept.read_text())
    if options.page:
        options.page.write_text(page(found))


if __name__ == "__main__":
    main()
