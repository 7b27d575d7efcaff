"""What the atlas shows of each head, as plain values: explanation, images at both ends, task, neighbours.

Everything about a single head is computed when that head is written, so that a build that was stopped goes on there.
What needs all heads at once (labels with false discoveries controlled over heads, neighbours) comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from headlens.cells import as_text
from headlens.errors import StoreError
from headlens.explain import Explanation, explain_heads
from headlens.explain.poles import Pole, shares_along
from headlens.extraction import HeadStore
from headlens.heads import HeadId
from headlens.locate import concept_directions
from headlens.models import HookedCLIP
from headlens.prompts import Attribute, TextBank, ZeroShotTask, default_bank
from headlens.states import Moments, head_moments
from headlens.steps.texts import TextEmbeddings, bank_embeddings

POLES, ENDS, TEXTS, NEIGHBOURS = 2, 6, 8, 6
"""Poles with images, images at each end, TextSpan's texts, similar heads."""
STILL = 1e-4
"""Share of a head's variance off its own mean below which it is said not to vary. An ablated head contributes a
constant, which the final norm divides by each image's own σ: all of its variance lies along its mean."""


@dataclass(frozen=True)
class AtlasQuestion:
    """What an atlas is asked to show.

    Attributes:
        task: whose margin heads are measured on; None for none.
        attribute: whose share of each head is shown; None for none.
        bank: of the explanations; by default headlens' own, in the words that the model knows.
        splits: the splits to explain on and to test labels on; None for random halves.
        seed: of every draw.
    """

    task: ZeroShotTask | None = None
    attribute: Attribute | None = None
    bank: TextBank | None = None
    splits: tuple[str, str] | None = None
    seed: int = 0


class Measured:
    """The numbers of an atlas, head by head."""

    def __init__(self, clip: HookedCLIP, store: HeadStore, question: AtlasQuestion):
        if len(store) < 20:
            raise StoreError(f"{len(store)} images are too few for an atlas.", "Extract 20 or more.")
        self.clip, self.store, self.question = clip, store, question
        words = getattr(clip.tokenizer, "words", None)
        own = question.bank or default_bank()
        self.bank = own if question.bank is not None or words is None else own.within(words)
        self.heads = [HeadId(i, j) for i in range(store.n_layers) for j in range(store.n_heads)]
        if question.splits is None:
            order = np.random.default_rng([question.seed, 11]).permutation(len(store))
            halves = [np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])]
            self.fit, self.test = (store.subset(half) for half in halves)
        else:
            self.fit, self.test = (store.subset(split=name) for name in question.splits)

    @cached_property
    def moments(self) -> Moments:
        return head_moments(self.fit)

    @cached_property
    def embeddings(self) -> Float[Tensor, "text embed"]:
        return bank_embeddings(self.bank, TextEmbeddings(self.clip.encode_text), self.clip)

    @cached_property
    def explanations(self) -> dict[HeadId, Explanation]:
        return explain_heads(
            self.fit, self.bank, self.embeddings, min(TEXTS, len(self.bank)), held_out=self.test, draws=0,
            seed=self.question.seed,
        )  # fmt: skip

    @cached_property
    def variance(self) -> Float[Tensor, "layer head"]:
        """Each head's share of the variance of all heads' contributions, added up."""
        own = self.store.basis.variance(self.moments.scatter).double()
        return own / own.sum().clamp_min(1e-30)

    def varies(self, head: HeadId) -> bool:
        """Whether the head contributes more than one vector, at the scale of each image."""
        own, covariance = self._means[head], self.moments.covariance(*head)
        along = shares_along(head, self.moments, self.store.basis, own[None])
        return float(covariance.diagonal().sum()) > 0 and float(1 - along) > STILL

    @cached_property
    def _means(self) -> Float[Tensor, "layer head embed"]:
        return self.moments.contribution_means(self.store.basis).double()

    def poles(self, head: HeadId) -> tuple[Pole, ...]:
        """The poles that images are shown along: the labelling one first; none for a head that does not vary."""
        if not self.varies(head):
            return ()
        one = self.explanations[head]
        first = one.pole
        return tuple(sorted(one.poles, key=lambda pole: (pole is not first, -pole.share))[:POLES])

    def along(self, head: HeadId) -> Float[Tensor, "image pole"]:
        """Every image's projection on those poles, less the mean."""
        own = self.store.project_head(*head, torch.stack([pole.direction for pole in self.poles(head)]).float())
        return own - own.mean(0)

    @cached_property
    def _first(self) -> Float[Tensor, "image head"]:
        """Every head's projection on its first shown pole, of unit norm; zero where it has none."""
        columns = []
        for head in self.heads:
            own = self.along(head)[:, 0] if self.poles(head) else torch.zeros(len(self.store))
            columns.append(own / own.norm().clamp_min(1e-30))
        return torch.stack(columns, 1)

    def similar(self, head: HeadId) -> list[list[Any]]:
        """The heads whose first poles order the images most alike, of either sign, with the correlation."""
        place = self.heads.index(head)
        alike = self._first.mT @ self._first[:, place]
        alike[place] = 0
        order = alike.abs().argsort(descending=True, stable=True)[:NEIGHBOURS].tolist()
        return [[str(self.heads[i]), _rounded(alike[i])] for i in order if abs(float(alike[i])) > 0.05]

    # ---- the task and the attribute ---------------------------------------------------------------------------------

    @cached_property
    def _classifier(self) -> Float[Tensor, "class embed"]:
        assert self.question.task is not None
        with torch.no_grad():
            return self.question.task.classifier(self.clip.encode_text).float().cpu()

    @cached_property
    def _task(self) -> tuple[Tensor, Tensor, Tensor, bool]:
        """Class scores of the tested images, the class and the other class of each, and whether labels decided."""
        task, logits = self.question.task, self.test.embedding.float() @ self._classifier.mT
        assert task is not None
        names = as_text(self.test.manifest["label"]) if "label" in self.test.manifest else None
        labelled = names is not None and bool(names.isin(list(task.classes)).all())
        chosen = torch.tensor(task.index(list(names))) if labelled and names is not None else logits.argmax(1)
        others = logits.scatter(1, chosen[:, None], -torch.inf).argmax(1)
        return logits, chosen, others, labelled

    def of_task(self, head: HeadId) -> dict[str, Any] | None:
        """A head's part of the margin, and what its mean ablation does to the predictions."""
        if self.question.task is None:
            return None
        logits, chosen, others, labelled = self._task
        own = self.test.project_head(*head, self._classifier).float()
        rows = torch.arange(len(own))
        margin = logits[rows, chosen] - logits[rows, others]
        part = own[rows, chosen] - own[rows, others]
        mean = self.fit.project_head(*head, self._classifier).float().mean(0)
        before, after = logits.argmax(1), (logits - own + mean).argmax(1)
        found: dict[str, Any] = {
            "part": _rounded(part.mean()), "margin": _rounded(margin.mean()),
            "changed": _rounded((before != after).float().mean()),
        }  # fmt: skip
        if labelled:
            right = [(seen == chosen).float() for seen in (before, after)]
            found |= {"accuracy": [_rounded(one.mean()) for one in right]}
            found["classes"] = [
                [name, *(_rounded(one[chosen == place].mean()) for one in right)]
                for place, name in enumerate(self.question.task.classes)
                if bool((chosen == place).any())
            ]
            found["classes"].sort(key=lambda row: (-abs(row[2] - row[1]), row[0]))
            found["classes"] = found["classes"][:12]
        return found

    def of_attribute(self, head: HeadId) -> dict[str, Any] | None:
        """The share of the head's variance along the attribute's texts, and its rank among the bank's."""
        asked = self.question.attribute
        if asked is None or not self.varies(head):
            return None
        own = float(shares_along(head, self.moments, self.store.basis, self._concepts).max())
        rank = 1 + int((self.explanations[head].along > own).sum())
        return {"name": asked.name, "share": _rounded(own), "rank": rank, "of": len(self.bank)}

    @cached_property
    def _concepts(self) -> Float[Tensor, "direction embed"]:
        assert self.question.attribute is not None
        with torch.no_grad():
            return concept_directions(self.question.attribute.prototypes(self.clip.encode_text).cpu())

    # ---- one head ---------------------------------------------------------------------------------------------------

    def head(self, head: HeadId) -> dict[str, Any]:
        """All of it, without pictures and maps; `ends` are rows of the store."""
        one, poles = self.explanations[head], self.poles(head)
        along = self.along(head) if poles else torch.zeros(len(self.store), 0)
        ends = []
        for column in along.T:
            orders = [column.argsort(descending=down, stable=True)[:ENDS].tolist() for down in (True, False)]
            ends.append([[[row, _rounded(column[row])] for row in order] for order in orders])
        own, varies = one.along.double(), self.varies(head)
        order = own.argsort(descending=True, stable=True)[:TEXTS].tolist() if varies else []
        span = list(zip(one.texts, one.categories, map(_rounded, one.share), strict=True)) if varies else []
        return {
            "head": str(head),
            "varies": varies,
            "label": one.label if varies else "does not vary",
            "clear": varies and one.pole is not None,
            "variance": _rounded(self.variance[head]),
            "explained": _rounded(one.explained),
            "poles": [_pole(pole) for pole in poles],
            "ends": ends,
            "texts": [list(row) for row in span],
            "chance": [_rounded(value) for value in one.chance],
            "near": [[self.bank.texts[i], self.bank.categories[i], _rounded(own[i])] for i in order],
            "similar": self.similar(head) if poles else [],
            "task": self.of_task(head),
            "attribute": self.of_attribute(head),
        }


def _pole(pole: Pole) -> dict[str, Any]:
    seen = pole.faithfulness
    faithful: Mapping[str, Any] | None = None
    if seen is not None:
        faithful = {
            "n": seen.n, "rho": _rounded(seen.rank_correlation), "interval": [_rounded(v) for v in seen.interval],
            "auroc": _rounded(seen.auroc), "auroc_interval": [_rounded(v) for v in seen.auroc_interval],
            "random": _rounded(seen.random),
        }  # fmt: skip
    return {
        "name": pole.pair, "share": _rounded(pole.share), "high": list(pole.high), "low": list(pole.low),
        "faithful": faithful, "p": _rounded(pole.p), "q": _rounded(pole.q), "clear": pole.clear,
        "consistency": _rounded(pole.consistency), "consistency_p": _rounded(pole.consistency_p),
    }  # fmt: skip


def _rounded(value: Any) -> float | None:
    """Four significant digits; None for what is no number."""
    number = float(value)
    return float(f"{number:.4g}") if np.isfinite(number) else None
