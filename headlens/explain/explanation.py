"""What one head encodes, in words: its poles and its TextSpan, a label by a stated rule, and how far to trust them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from headlens.explain.label import NO_CLEAR_MEANING, LabelRule
from headlens.explain.poles import Pole
from headlens.heads import HeadId
from headlens.locate.textspan import TextSpan
from headlens.tables import Column, Kind, Table


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """What a head distinguishes, the texts that span its contributions, and what holds when texts or images change.

    Attributes:
        head: the head.
        span: its TextSpan; `span.texts` are places in the bank.
        texts: the texts, in the order of choice.
        categories: the category of each.
        shared: how many of the explained heads, this one among them, chose each text.
        n_heads: how many heads were explained.
        bank: each category's share of the bank, to compare with its share of the variance.
        again: for each text, the share of bootstrap samples of the images in which it was chosen again; None where the
            images were not at hand.
        bank_stability: how alike the categories are that two halves of the bank give, from 0 to 1: Σ over categories of
            the smaller of both halves' shares of the variance that they explain. None for a bank of one text,
            or a head that does not vary.
        rule: the rule behind `label`.
        poles: its principal directions with the texts at both ends, largest share first.
        chance: the share of the head's variance that the first text, the first two and the first three explain where
            random directions with the bank's mean and covariance, as many as the bank has texts, stand instead.
        along: for every text of the bank, less the bank's mean and of unit norm before that, the share of the head's
            variance along it, in the space that the head can write to.
    """

    head: HeadId
    span: TextSpan
    texts: tuple[str, ...]
    categories: tuple[str, ...]
    shared: tuple[int, ...]
    n_heads: int
    bank: Mapping[str, float]
    again: tuple[float, ...] | None
    bank_stability: float | None
    rule: LabelRule
    poles: tuple[Pole, ...] = ()
    chance: tuple[float, ...] = ()
    along: Float[Tensor, "text"] = field(default_factory=lambda: torch.zeros(0))

    @property
    def share(self) -> tuple[float, ...]:
        """Each text's share of the head's variance."""
        return tuple(float(value) for value in self.span.share)

    @property
    def explained(self) -> float:
        """The share of the head's variance that all its texts explain."""
        return self.span.explained

    @property
    def by_category(self) -> dict[str, float]:
        """Each category's share of the head's variance, largest first; together they are `explained`."""
        return shares_by_category(self.categories, self.share)

    @property
    def pole(self) -> Pole | None:
        """The pole that the head is labelled by: the first one that is clear; None where none is."""
        return next((pole for pole in self.poles if pole.clear), None)

    @property
    def label(self) -> str:
        """The pair of texts at the ends of `pole`, 'dry land ↔ open water', or 'no clear meaning'."""
        return NO_CLEAR_MEANING if self.pole is None else self.pole.pair

    @property
    def unique(self) -> tuple[float, ...]:
        """For each text, 1 where no other head chose it, 0 where all did."""
        others = max(1, self.n_heads - 1)
        return tuple(1 - (count - 1) / others for count in self.shared)

    @property
    def uniqueness(self) -> float | None:
        """The mean of `unique`, weighted by the variance that the texts explain; None without texts."""
        return _weighted(self.unique, self.share)

    @property
    def image_stability(self) -> float | None:
        """The mean of `again`, weighted by the variance that the texts explain."""
        return None if self.again is None else _weighted(self.again, self.share)

    def table(self) -> pd.DataFrame:
        """One row a text: `text`, `category`, `share`, `together` (up to this text), `heads`, `again`."""
        frame = pd.DataFrame(
            {"text": self.texts, "category": self.categories, "share": self.share},
            columns=["text", "category", "share"],
        ).astype({"text": object, "category": object, "share": float})
        frame["together"] = frame["share"].cumsum()
        frame["heads"] = list(self.shared)
        frame["again"] = [float("nan")] * len(frame) if self.again is None else list(self.again)
        return frame

    def pole_table(self) -> pd.DataFrame:
        """One row a pole: its pair, its share, texts at both ends, faithfulness with interval, `p`, `q`, `clear`."""
        rows = []
        for pole in self.poles:
            seen = pole.faithfulness
            rows.append(
                {
                    "pole": pole.pair,
                    "share": pole.share,
                    "high": "; ".join(pole.high),
                    "low": "; ".join(pole.low),
                    "rank correlation": None if seen is None else seen.rank_correlation,
                    "rank correlation_low": None if seen is None else seen.interval[0],
                    "rank correlation_high": None if seen is None else seen.interval[1],
                    "AUROC": None if seen is None else seen.auroc,
                    "random labels": None if seen is None else seen.random,
                    "p": pole.p,
                    "q": pole.q,
                    "clear": pole.clear,
                    "consistency": pole.consistency,
                    "consistency p": pole.consistency_p,
                }
            )
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "head": str(self.head),
            "label": self.label,
            "explained": self.explained,
            "texts": self.table().to_dict("records") if self.again is not None else _without_again(self.table()),
            "by_category": self.by_category,
            "chance": list(self.chance),
            "poles": self.pole_table().to_dict("records"),
            "uniqueness": self.uniqueness,
            "image_stability": self.image_stability,
            "bank_stability": self.bank_stability,
            "rule": vars(self.rule),
        }

    def __repr__(self) -> str:
        return "\n\n".join((self._title, *map(str, self._shown())))

    def _repr_html_(self) -> str:
        tables = "".join(one._repr_html_() for one in self._shown())
        return f"<p><b>{escape(self._title)}</b></p>{tables}"

    @property
    def _title(self) -> str:
        return f"Head {self.head}: {self.label} ({100 * self.explained:.0f} % of its variance explained)"

    def _shown(self) -> tuple[Table, ...]:
        return (self.shown_poles(), self.shown_texts()) if self.poles else (self.shown_texts(),)

    def shown_poles(self) -> Table:
        """The poles, to be read: how well the texts' score of the embedding without this head predicts the head's own
        part, and the 95 % quantile of random directions' texts."""
        columns: dict[str, Kind | Column] = {
            "high": Column("text", "one end"),
            "low": Column("text", "other end"),
            "share": Column("percent", "variance"),
            "rank correlation": Column("change", "predicts the head"),
            "random labels": "change",
            "q": "p",
            "clear": "text",
        }
        return Table(self.pole_table(), columns, "Poles")

    def shown_texts(self) -> Table:
        """The texts, to be read."""
        columns: dict[str, Kind | Column] = {
            "text": "text",
            "category": "text",
            "share": Column("percent", "variance"),
            "together": "percent",
            "heads": Column("count", "heads with it"),
        }
        if self.again is not None:
            columns["again"] = Column("percent", "chosen again")
        return Table(self.table(), columns, "Texts (TextSpan)")


def shares_by_category(categories: tuple[str, ...], share: tuple[float, ...]) -> dict[str, float]:
    """The sum of the shares of each category's texts, largest first."""
    sums: dict[str, float] = {}
    for category, value in zip(categories, share, strict=True):
        sums[category] = sums.get(category, 0.0) + value
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def overview(explanations: Mapping[HeadId, Explanation]) -> pd.DataFrame:
    """One row a head: `head`, `label`, the labelling pole's `share`, `rank_correlation` with interval, `q`; what its
    texts explain, the first three of them, `uniqueness` and both stabilities."""
    rows = [
        (
            str(head),
            one.label,
            *_of_pole(one.pole),
            one.explained,
            "; ".join(one.texts[:3]),
            one.uniqueness,
            one.image_stability,
            one.bank_stability,
        )
        for head, one in explanations.items()
    ]
    pole = ["share", "rank_correlation", "rank_correlation_low", "rank_correlation_high", "q"]
    texts = ["explained", "texts", "uniqueness", "image_stability", "bank_stability"]
    return pd.DataFrame(rows, columns=["head", "label", *pole, *texts]).astype(dict.fromkeys(pole, float))


def _of_pole(pole: Pole | None) -> tuple[float | None, ...]:
    if pole is None:
        return (None,) * 5
    seen = pole.faithfulness
    return (pole.share, *((None,) * 3 if seen is None else (seen.rank_correlation, *seen.interval)), pole.q)


def _weighted(values: tuple[float, ...], weights: tuple[float, ...]) -> float | None:
    total = sum(weights)
    return sum(v * w for v, w in zip(values, weights, strict=True)) / total if total > 0 else None


def _without_again(table: pd.DataFrame) -> list[dict[str, object]]:
    # JSON has no NaN
    return [{str(k): v for k, v in row.items()} for row in table.drop(columns="again").to_dict("records")]
