"""How much of what ablation can reach does each locator reach? Writes `docs/oracle.md`, and the numbers as JSON.

    python benchmarks/oracle_table.py --out docs/oracle.md --json build/oracle.json

For every testbed model: each locator names its heads on the reference split; they are mean-ablated and scored on the
test split; and so is the best set of as many heads that a search finds, on the reference split (the honest oracle) and
on the test split itself (an upper bound). Needs no network and no GPU; about ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from oracle_page import page
from scipy.stats import spearmanr

import headlens as hl
from headlens.errors import HeadlensError
from headlens.heads import HeadId
from headlens.locate import (
    HeadEffects,
    Located,
    Objective,
    ObjectiveName,
    SearchResult,
    best_set,
    draw_head_sets,
    greedy_sweep,
    single_head_sweep,
)
from headlens.metrics import association_change, paired_difference

LOCATORS = ("contrastive", "calibrated", "contrastive-soft", "concept", "textspan", "concept+textspan")
MINIMUM = 0.01  # of a sweep's step: a hundredth of V, or a point of accuracy
MOST = 6  # heads of a greedy sweep
SIZES = (1, 2, 3, 4)
LIMIT = 50_000  # sets that are all tried
TOP = 4  # heads whose order is compared besides that of all


@dataclass(frozen=True)
class Case:
    """A model, one of its worlds, and the measures that matter there."""

    model: str
    world: str
    measures: tuple[ObjectiveName, ...]
    asked: str = "attribute"  # or "control": an attribute that is independent of the classes


CASES = (
    Case("testbed-birds-0", "birds", ("cramers_v", "worst_group")),
    Case("testbed-birds-1", "birds", ("cramers_v", "worst_group")),
    Case("testbed-birds-2", "birds", ("cramers_v", "worst_group")),
    Case("testbed-plain", "birds", ("cramers_v", "worst_group")),
    Case("testbed-worlds-0", "figures", ("cramers_v",)),
    Case("testbed-worlds-0", "figures", ("cramers_v",), asked="control"),
)


@dataclass
class Row:
    """One locator on one model and measure, on the test split; effects are improvements, above zero where better."""

    locator: str
    heads: list[str]
    effect: float = 0.0
    interval: tuple[float, float] | None = None
    share: float | None = None  # of the best set that a search on the reference split finds
    upper_share: float | None = None  # of the best set that a search on the test split finds
    beaten: int | None = None  # layer-matched random sets with a smaller effect, of `sets`
    sets: int = 0
    accuracy: float = 0.0  # change of the average accuracy
    rank: float | None = None  # Spearman's correlation of the locator's scores with the single-head effects
    top: int | None = None  # of the TOP heads with the largest single-head effects, those among the TOP largest scores
    note: str = ""


@dataclass
class Ceiling:
    """The best set of a size, searched for on the reference split and, as an upper bound, on the test split."""

    size: int
    heads: list[str]
    effect: float
    upper_heads: list[str]
    upper_effect: float
    how: str


@dataclass
class Block:
    """One table."""

    model: str
    world: str
    measure: str
    attribute: str
    asked: str
    planted: list[str]
    baseline: float
    accuracy: float
    images: dict[str, int]
    n_heads: int
    rows: list[Row] = field(default_factory=list)
    ceilings: list[Ceiling] = field(default_factory=list)
    scores: dict[str, tuple[float, int]] = field(default_factory=dict)  # concept's single scores: rank and top
    cosine: float = 1.0  # of the attribute's prototypes


def overlap(scores: np.ndarray, effects: np.ndarray) -> int:
    """How many of the TOP heads with the largest effects are among the TOP with the largest scores."""
    first, second = (set(np.argsort(-values, kind="stable")[:TOP].tolist()) for values in (scores, effects))
    return len(first & second)


class Bench:
    """One case: its audit, and what ablation does on both splits."""

    def __init__(self, case: Case, work: Path):
        self.case = case
        clip = hl.load(case.model)
        told = hl.testbed.card(case.model, case.world)
        manifest = hl.testbed.images(work / case.world, world=case.world)
        store = hl.extract(clip, manifest, work / f"{case.model}-{case.world}.zarr")
        planted = told["planted_heads" if case.asked == "attribute" else "control_heads"]
        self.planted = [str(HeadId(*head)) for head in planted]
        task = hl.ZeroShotTask(told["classes"], told["templates"])
        self.audit = hl.Audit(clip, store, task, hl.Attribute(**told[case.asked]))

    @cached_property
    def effects(self) -> dict[str, HeadEffects]:
        """By split; the means are those of the reference split, for both."""
        data = self.audit.data
        reference, test = (part.project(data.classifier) for part in (data.reference, data.test))
        return {
            "reference": HeadEffects.of(data.logits(data.reference.embedding), reference, reference),
            "test": HeadEffects.of(data.logits(data.test.embedding), test, reference),
        }

    def columns(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """True classes and the attribute's values."""
        rows = self.audit.splits.reference if split == "reference" else self.audit.splits.test
        return self.audit.data.labels[rows], self.audit.data.values[rows]

    def objective(self, split: str, measure: ObjectiveName) -> Objective:
        """The measure on a split; the reference split holds classes and attribute together, so V is balanced there."""
        labels, values = self.columns(split)
        if split == "reference" and measure == "cramers_v":
            measure = "balanced_v"
        return Objective(measure, torch.tensor(labels), torch.tensor(values))

    def best(self, split: str, measure: ObjectiveName, size: int) -> SearchResult:
        """The best set, searched for once."""
        known = self.__dict__.setdefault("_best", {})
        key = (split, measure, size)
        if key not in known:
            known[key] = best_set(self.effects[split], self.objective(split, measure), size, limit=LIMIT)
        return known[key]

    def effect(self, measure: ObjectiveName, heads: list[HeadId]) -> float:
        """How much ablating the heads improves the measure on the test split."""
        objective, effects = self.objective("test", measure), self.effects["test"]
        both = objective.score(torch.stack([effects.predictions(), effects.predictions(heads)], dim=1))
        return float(objective.improvement(both[1:], float(both[0]))[0])

    def located(self) -> dict[str, Located | str | list[HeadId]]:
        """Every locator's result on the reference split, or why it has none."""
        found: dict[str, Located | str | list[HeadId]] = {}
        for name in (*LOCATORS, "textspan (prompts)"):
            options: dict[str, Any] = {"enter": "prompts"} if "prompts" in name else {}
            try:
                found[name] = self.audit.locate(name.split()[0], **options)
            except HeadlensError as error:
                found[name] = str(error)
        return found

    def row(self, name: str, found: Located | str | list[HeadId], measure: ObjectiveName) -> Row:
        """One line of a table: of a locator's result, of heads, or of the reason why there is none."""
        if isinstance(found, str):
            return Row(name, [], note=found)
        heads = found if isinstance(found, list) else list(found.spurious)
        row = Row(name, [str(head) for head in heads])
        if not isinstance(found, list):
            scores = found.scores().values.numpy().ravel()
            # Equal scores for all heads have no order to compare.
            if np.ptp(scores) > 0:
                alone = self.single(measure)
                row.rank, row.top = float(spearmanr(scores, alone).statistic), overlap(scores, alone)
        if not heads:
            return row
        labels, values = self.columns("test")
        before, after = (self.effects["test"].predictions(chosen).numpy() for chosen in ([], heads))
        row.effect = self.effect(measure, heads)
        if measure == "cramers_v":
            low, high = association_change(labels, after, baseline=before, attribute=values).interval["cramers_v"]
            row.interval = (-high, -low)
        else:
            groups = [f"{label}/{value}" for label, value in zip(labels, values, strict=True)]
            row.interval = paired_difference(labels, after, baseline=before, groups=groups).interval[measure]
        best, upper = (self.best(split, measure, len(heads)).spurious for split in ("reference", "test"))
        row.share, row.upper_share = (
            row.effect / most if (most := self.effect(measure, chosen)) > MINIMUM else None for chosen in (best, upper)
        )
        row.beaten, row.sets = self.beaten(measure, heads, row.effect)
        row.accuracy = float((after == labels).mean() - (before == labels).mean())
        return row

    def single(self, measure: ObjectiveName) -> np.ndarray:
        """The improvement on the test split by each head alone."""
        found = single_head_sweep(self.effects["test"], self.objective("test", measure))
        return found.improvement.numpy().ravel()

    def beaten(self, measure: ObjectiveName, heads: list[HeadId], observed: float) -> tuple[int | None, int]:
        """How many random sets of as many heads of the same layers improve the measure by less, and of how many."""
        n_layers, n_heads = self.effects["test"].shape
        sets = [one["spurious"] for one in draw_head_sets(heads, n_layers, n_heads, alpha=1).sets]
        beaten = sum(self.effect(measure, list(chosen)) < observed for chosen in sets)
        return (beaten if sets else None), len(sets)

    def block(self, measure: ObjectiveName) -> Block:
        """One table."""
        objective = self.objective("test", measure)
        labels, _ = self.columns("test")
        before = self.effects["test"].predictions()
        prototypes = self.audit.attribute.prototypes(self.audit.data.texts)
        block = Block(
            model=self.case.model,
            world=self.case.world,
            measure=measure,
            attribute=self.audit.attribute.name,
            asked=self.case.asked,
            planted=self.planted,
            baseline=float(objective.score(before[:, None])[0]),
            accuracy=float((before.numpy() == labels).mean()),
            images={"reference": len(self.audit.data.reference), "test": len(self.audit.data.test)},
            n_heads=int(np.prod(self.effects["test"].shape)),
            cosine=float((prototypes[0] @ prototypes[1]) / (prototypes[0].norm() * prototypes[1].norm())),
        )
        located = self.located()
        reference = self.objective("reference", measure)
        located["single-head sweep"] = single_head_sweep(self.effects["reference"], reference, minimum=MINIMUM)
        located["greedy sweep"] = greedy_sweep(self.effects["reference"], reference, MOST, minimum=MINIMUM)
        if self.planted:
            located["the planted heads"] = [HeadId.of(head) for head in self.planted]
        block.rows = [self.row(name, found, measure) for name, found in located.items()]
        alone = self.single(measure)
        concept = located["concept"]
        if isinstance(concept, hl.locate.Candidates) and concept.concept is not None:
            for name in ("difference", "share", "auroc", "gap", "part"):
                values = concept.concept.scores(name).values.numpy().ravel()
                values = np.abs(values - 0.5) if name == "auroc" else values
                block.scores[name] = float(spearmanr(values, alone).statistic), overlap(values, alone)
        for size in SIZES:
            best, upper = (self.best(split, measure, size) for split in ("reference", "test"))
            block.ceilings.append(
                Ceiling(
                    size,
                    [str(head) for head in best.spurious],
                    self.effect(measure, best.spurious),
                    [str(head) for head in upper.spurious],
                    self.effect(measure, upper.spurious),
                    best.how,
                )
            )
        return block


def main() -> None:
    """Measure, and write the page and the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/oracle.md"), help="the page")
    parser.add_argument("--json", type=Path, default=Path("build/oracle.json"), help="the numbers")
    parser.add_argument("--work", type=Path, help="folder for images and stores, kept; a temporary one without it")
    parser.add_argument("--models", nargs="*", help="some of the models, by name")
    parser.add_argument("--again", action="store_true", help="write the page from the JSON, measuring nothing")
    options = parser.parse_args()
    if not options.again:
        blocks: list[dict[str, object]] = []
        with tempfile.TemporaryDirectory() as folder:
            for case in CASES:
                if options.models and case.model not in options.models:
                    continue
                try:
                    bench = Bench(case, options.work or Path(folder))
                except hl.errors.ModelError as error:
                    print(f"{case.model}: left out. {error}")
                    continue
                for measure in case.measures:
                    blocks.append(asdict(bench.block(measure)))
                    print(f"{case.model}: {measure}")
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(blocks, indent=1) + "\n", encoding="utf-8")
    measured = json.loads(options.json.read_text(encoding="utf-8"))
    options.out.write_text(page(measured, MINIMUM, MOST, TOP, LIMIT), encoding="utf-8")
    print(f"{options.out} and {options.json}")


if __name__ == "__main__":
    main()
