"""The benchmark's table, in the forms that people paste: terminal, Markdown, CSV, JSON, LaTeX."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from headlens.audit import Audit
from headlens.benchmark.head_transfer import TransferredHeads
from headlens.benchmark.measures import ExtraTable, is_probe
from headlens.benchmark.suite import Published
from headlens.metrics import SMALL, cramers_v
from headlens.serialization import to_json
from headlens.steps.evaluate import Fitted
from headlens.tables import MISSING, Column, Kind, Table

Interval = tuple[float, float]
_ACCURACIES = ("average", "worst_group", "gap")
RIVAL = "ltc"
"""The method that every other is compared with, beside zero-shot."""
FAMILIES = (
    "zero-shot",
    "texts alone",
    "located heads",
    "random heads",
    "fitted on reference labels",
    "trained on labels",
    "could not be fitted here",
)
"""The parts of the table, by what a method is given beside texts and images, in their order. A table that compares a
probe, trained on labels, with a method that reads nothing but texts has to say so."""
_MOST = 12  # groups that a footnote names


@dataclass(frozen=True)
class Row:
    """One method; accuracies as fractions.

    Attributes:
        method: its name; random heads have rows of their own, with means over the draws.
        family: the part of the table that it stands in.
        given: what of the reference split it reads: located "heads", "labels" of the classes, the "attribute".
        average, worst_group, gap: on the test split; None where the method could not be fitted.
        gain: worst-group accuracy less zero-shot's.
        lead: worst-group accuracy less that of `RIVAL`.
        interval: 95 % intervals of these, paired for gain and lead; of random heads the central 95 % of the draws.
        cramers_v, corrected_v: of attribute × prediction, as it is and bias-corrected.
        random_p: p-value against layer-matched random heads, where that control was drawn, `random_sets`: of how many.
        transductive: whether one image's result depends on the other scored images.
        failure: why the method could not be fitted; "" where it could.
    """

    method: str
    family: str
    given: tuple[str, ...] = ()
    average: float | None = None
    worst_group: float | None = None
    gap: float | None = None
    gain: float | None = None
    lead: float | None = None
    interval: dict[str, Interval] = field(default_factory=dict)
    cramers_v: float | None = None
    corrected_v: float | None = None
    random_p: float | None = None
    random_sets: int | None = None
    transductive: bool = False
    failure: str = ""


@dataclass(frozen=True)
class BenchmarkTable:
    """All methods on one suite and model.

    Attributes:
        suite, model, attribute: what was asked; `inferred`: whether the attribute was inferred zero-shot.
        images: scored images, `sizes`: of each group.
        rows: one a method.
        published: what others published of this model on this data set.
        notes: how the data were read and split.
        seed: of every draw.
        extras: what the suite measures beside, a table each.
        heads: the located heads, for another benchmark to take; `heads.write("located.json")`.
    """

    suite: str
    model: str
    attribute: str
    inferred: bool
    images: int
    sizes: dict[str, int]
    rows: tuple[Row, ...]
    published: tuple[Published, ...]
    notes: tuple[str, ...]
    seed: int
    extras: tuple[ExtraTable, ...] = ()
    heads: TransferredHeads | None = None

    def frame(self) -> pd.DataFrame:
        """One row a method, all numbers as fractions: estimates, ends of intervals, published values beside them."""
        records = []
        for row in self.rows:
            record: dict[str, Any] = {"method": row.method, "family": row.family, "given": " ".join(row.given)}
            for name in (*_ACCURACIES, "gain", "lead"):
                low, high = row.interval.get(name, (None, None))
                record |= {name: getattr(row, name), f"{name}_low": low, f"{name}_high": high}
            record |= {"corrected_v": row.corrected_v, "cramers_v": row.cramers_v}
            record |= {"random_p": row.random_p, "random_sets": row.random_sets}
            record["transductive"] = row.transductive
            for name in ("worst_group", "average"):
                # The publication of the very method comes first in the list.
                described = [getattr(one, name) for one in self._published_of(row.method)]
                record[f"published_{name}"] = described[0] / 100 if described and described[0] is not None else None
            record["failure"] = row.failure
            records.append(record)
        return pd.DataFrame(records)

    def shown(self) -> Table:
        """The table as people read it: per cent, intervals in brackets, published numbers in a column of their own.

        Methods that could not be fitted here are left to the footnotes.
        """
        frame = self.frame()
        frame = frame[frame["failure"] == ""].assign(
            method=[row.method + " †" * row.transductive for row in self.rows if not row.failure],
            given=[", ".join(row.given) or MISSING for row in self.rows if not row.failure],
            published=[
                "; ".join(map(_accuracies, self._published_of(row.method))) or MISSING
                for row in self.rows
                if not row.failure
            ],
        )
        columns: dict[str, Kind | Column] = {
            "method": "text",
            "given": "text",
            "average": "percent",
            "worst_group": Column("percent", "worst group"),
            "gap": "percent",
            "gain": Column("points", "gain, worst group"),
            "lead": Column("points", f"less that of {RIVAL}"),
            "corrected_v": Column("number", "V"),
            "random_p": Column("p", "p, random"),
            "random_sets": Column("count", "sets"),
            "published": "text",
        }
        unused = {name for name in ("lead", "random_p", "random_sets") if frame[name].isna().all()}
        unused |= set() if self.published else {"published"}
        return Table(frame, {name: column for name, column in columns.items() if name not in unused})

    def families(self) -> dict[str, list[int]]:
        """The rows of `shown()` by the part of the table that they stand in, in their order."""
        parts: dict[str, list[int]] = {}
        for i, row in enumerate(row for row in self.rows if not row.failure):
            parts.setdefault(row.family, []).append(i)
        return parts

    def footnotes(self) -> list[str]:
        """What a reader has to know beside the table."""
        inferred = " (inferred zero-shot)" if self.inferred else ""
        lines = [
            f"{self.suite}, {self.model}, {self.attribute}{inferred}: {self.images} scored images. Accuracy in per "
            "cent [95 % interval], its average over images; gains are against zero-shot and against "
            f"{RIVAL}, paired; V is Cramér's V of attribute × prediction, bias-corrected (table.csv has the other one, "
            "too); p is (1 + sets of layer-matched random heads that do as well) / (1 + sets), and cannot be "
            "lower than 1 / (1 + sets); rows of random heads hold the mean and the central 95 % of the draws; seed "
            f"{self.seed}.",
            f"Images a group: {self._group_sizes()}.",
            "Given, of the reference split: heads that were located on it, which reads its labels, unless they are "
            "transferred; labels of its classes, attribute its values of the attribute, to fit on. Methods with – "
            "read texts alone: rows that are given different things are not rivals.",
            *self.notes,
        ]
        if small := [f"{name} ({size})" for name, size in self.sizes.items() if size < SMALL]:
            shown = ", ".join(small[:_MOST]) + (f" and {len(small) - _MOST} more" if len(small) > _MOST else "")
            lines.append(f"Groups under {SMALL} images, whose accuracy says little: {shown}.")
        if any(row.transductive for row in self.rows):
            lines.append("† draws on the other scored images: one image's result depends on them.")
        failures = dict.fromkeys(row.failure for row in self.rows if row.failure)
        for reason in failures:
            names = ", ".join(row.method for row in self.rows if row.failure == reason)
            lines.append(f"Could not be fitted here: {names}. {reason}")
        sources = dict.fromkeys(one.source for one in self.published)
        for source in sources:
            values = ", ".join(f"{one.method} {_accuracies(one)}" for one in self.published if one.source == source)
            lines.append(f"Published worst group / average of this model: {values} ({source}).")
        if missed := self.missed():
            lines.append(f"Published and not reached here (the interval lies below it): {missed}.")
        return lines

    def _group_sizes(self) -> str:
        if len(self.sizes) > _MOST:
            return f"{len(self.sizes)} groups of {min(self.sizes.values())} to {max(self.sizes.values())}"
        return ", ".join(f"{name} {size}" for name, size in self.sizes.items())

    def missed(self) -> str:
        """The methods whose published worst-group accuracy lies above the interval measured here."""
        names = []
        for row in self.rows:
            for described in self._published_of(row.method):
                interval = row.interval.get("worst_group")
                if described.worst_group and interval and 100 * interval[1] < described.worst_group:
                    names.append(f"{row.method} ({100 * (row.worst_group or 0):.1f} against {described.worst_group})")
        return ", ".join(names)

    def markdown(self) -> str:
        """The table, the suite's further measures and the footnotes as Markdown."""
        shown, parts = self.shown(), []
        cells = shown.rows()
        for family, rows in self.families().items():
            parts += [[f"**{family}**", *[""] * (len(shown.headings) - 1)], *(cells[row] for row in rows)]
        text = [_markdown(shown.headings, parts)]
        for extra in self.extras:
            own = extra.shown()
            text += ["", f"**{extra.title}**. {extra.note}", "", _markdown(own.headings, own.rows())]
        return "\n".join([*text, "", *[f"{note}\n" for note in self.footnotes()]])

    def latex(self) -> str:
        """The table as a LaTeX tabular (booktabs), a rule between the families, and one tabular a further measure."""
        body = _latex(self.shown())
        lines = body.splitlines()
        first = lines.index("\\midrule") + 1
        ends = np.cumsum([len(rows) for rows in self.families().values()])[:-1]
        for end in reversed(ends.tolist()):
            lines.insert(first + end, "\\midrule")
        return (
            "\n\n".join(["\n".join(lines), *(f"% {extra.title}\n{_latex(extra.shown())}" for extra in self.extras)])
            + "\n"
        )

    def json(self) -> str:
        """Everything, with fractions and intervals, as JSON; a number that is not finite is null."""
        plain = asdict(self) | {"extras": [extra.to_dict() for extra in self.extras], "footnotes": self.footnotes()}
        return to_json(plain)

    def csv(self) -> str:
        """`frame()` as CSV; the further measures have tables of their own, `extras[i].frame()`."""
        return self.frame().to_csv(index=False)

    def _published_of(self, method: str) -> list[Published]:
        return [one for one in self.published if one.method == method]

    def _repr_html_(self) -> str:
        return self.shown()._repr_html_()


def rows_of(audit: Audit, failed: dict[str, str]) -> tuple[Row, ...]:
    """The rows of what an audit evaluated, its random heads, and the methods that could not be fitted."""
    results = audit.results
    assert results is not None
    scored, rows = audit.data.scored_images, []
    for name, one in results.evaluations.items():
        fitted = audit.fitted.get(name)
        own, control = results.predictions[name], results.controls.get(name)
        changes = {"gain": results.differences[name]} if name in results.differences else {}
        if name != RIVAL and RIVAL in results.predictions:
            changes["lead"] = scored.difference(own, results.predictions[RIVAL])
        worst = {what: change.difference["worst_group"] for what, change in changes.items()}
        rows.append(
            Row(
                method=name,
                family=_family(fitted),
                given=_given(fitted),
                average=one.average,
                worst_group=one.worst_group,
                gap=one.gap,
                gain=worst.get("gain"),
                lead=worst.get("lead"),
                interval={name: one.interval[name] for name in _ACCURACIES}
                | {what: change.interval["worst_group"] for what, change in changes.items()},
                cramers_v=cramers_v(scored.values, own),
                corrected_v=cramers_v(scored.values, own, corrected=True),
                random_p=None if control is None else control.comparison().p,
                random_sets=None if control is None else len(control.sets),
                transductive=fitted is not None and fitted.correction.transductive,
            )
        )
    for control in results.controls.values():
        record = control.to_record()
        rows.append(
            Row(
                method=record["method"],
                family="random heads",
                average=record["average"],
                worst_group=record["worst_group"],
                gap=record["gap"],
                interval={name: tuple(record["interval"][name]) for name in _ACCURACIES},
                gain=record["worst_group"] - results.evaluations["zero-shot"].worst_group,
            )
        )
    rows += [Row(name, FAMILIES[-1], failure=reason) for name, reason in failed.items()]
    return tuple(sorted(rows, key=lambda row: FAMILIES.index(row.family)))


def _given(fitted: Fitted | None) -> tuple[str, ...]:
    """What of the reference split a method was given: "heads", "labels", "attribute"; nothing for texts alone."""
    return () if fitted is None else (*(("heads",) if fitted.roles else ()), *fitted.given)


def _family(fitted: Fitted | None) -> str:
    """The part of the table that a method belongs to; None for zero-shot."""
    if fitted is None:
        return "zero-shot"
    if is_probe(fitted.correction):
        return "trained on labels"
    if fitted.roles:
        return "located heads"
    return "fitted on reference labels" if fitted.given else "texts alone"


def _accuracies(one: Published) -> str:
    worst = "–" if one.worst_group is None else f"{one.worst_group}"
    return worst if one.average is None else f"{worst} / {one.average}"


def _markdown(columns: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(columns), "|---|" + "---:|" * (len(columns) - 1), *map(line, rows)])


def _latex(shown: Table) -> str:
    # Letters that a plain pdflatex does not know.
    cells = shown.text()
    escaped = cells.rename(columns=_tex).map(_tex)
    return escaped.style.hide(axis="index").to_latex(hrules=True, column_format="l" + "r" * (cells.shape[1] - 1))


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


_TEX = {letter: f"\\{letter}" for letter in "%&_#${}"} | {
    "\\": "\\textbackslash{}",
    "^": "\\textasciicircum{}",
    "~": "\\textasciitilde{}",
    "†": "$\\dagger$",
    "–": "--",
    "−": "$-$",
}
