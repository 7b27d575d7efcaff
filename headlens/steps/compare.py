"""Two audits side by side: what differs in what they ask, and what differs in what they found.

Accuracies of the same groups are subtracted. Where both audits scored the same images, with the same groups, the
interval of a difference is the paired one of `headlens.metrics.paired_difference`; elsewhere that of two independent
samples, from the interval of each (Zou and Donner 2008).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from headlens.heads import HeadId
from headlens.metrics import Evaluation, paired_difference
from headlens.metrics.intervals import independent_difference
from headlens.steps import reproduce
from headlens.steps.audited import Audited
from headlens.steps.collateral import CANDIDATES
from headlens.steps.evaluate import ZERO_SHOT
from headlens.steps.saved import load
from headlens.steps.verdicts import Judgement
from headlens.tables import Column, Kind, Shown, Table, listed, plain

_OWN = ("headlens", "audit")
"""Settings that say nothing on what was asked: the version that reads, and the digest of all others."""
_LONG = 160
_KEYS = ("first", "second")
_MEASURES = {"average": "average", "worst_group": "worst group", "gap": "gap"}

Names = tuple[str, str]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Shown):
    """Two audits beside each other. Differences are the second minus the first; accuracies are fractions.

    Attributes:
        names: what the audits are called.
        asked: each audit's question in a line.
        settings: the settings that differ: `setting`, `first`, `second`. Of this table and the others, `frame` has the
            numbers under these names.
        shared: those that are the same, name and value.
        verdicts: `audit`, `on`, `verdict`, and `in words` its headline and remarks.
        conditions: of each verdict, one row a condition: `audit`, `on`, `condition`, `outcome`, `numbers`.
        heads: `head`, `located_in` ("both" or one of `names`), and each audit's `role_…` and `encodes_…`.
        accuracy: one row a method and measure, the method first: each audit's accuracy with its interval, and the
            difference with its own where both have the same groups.
        evaluations: each audit's methods, where both have the same groups.
        fairness: measures before and after the ablation of each audit's candidates; empty without a fairness audit.
        collateral: what the judged correction of each audit changes elsewhere; empty where neither measured it.
        paired: whether both scored the same images in the same groups.
        same_groups: whether both have the same groups.
        same_model: whether both audit one model.
        main: the row of `accuracy` that a reader looks for first: the worst group with the judged corrections.
    """

    names: Names
    asked: tuple[str, str]
    settings: Table
    shared: dict[str, str]
    verdicts: pd.DataFrame
    conditions: Table
    heads: Table
    accuracy: Table
    evaluations: tuple[Evaluation, ...]
    fairness: Table
    collateral: Table
    paired: bool
    same_groups: bool
    same_model: bool
    main: int | None

    def shown(self) -> Table:
        """Accuracies and their differences."""
        return self.accuracy

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a number that is not there is None."""
        names = ("settings", "verdicts", "conditions", "heads", "accuracy", "fairness", "collateral")
        frames = {name: getattr(self, name) for name in names}
        tables = {name: _records(getattr(one, "frame", one)) for name, one in frames.items()}
        return {
            "first": self.names[0],
            "second": self.names[1],
            "asked": list(self.asked),
            "paired": self.paired,
            "same_groups": self.same_groups,
            "same_model": self.same_model,
            **tables,
        }


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    if isinstance(value, HeadId):
        return str(value)
    return None if isinstance(value, float) and np.isnan(value) else value


def compare(first: Audited | str | Path, second: Audited | str | Path, names: Sequence[str] = ()) -> Comparison:
    """Put two audits beside each other; neither is run again, and no model is loaded.

    Args:
        first, second: audits, or the folders that they were saved to.
        names: what to call them; by default the names of their folders.

    Raises:
        OutputError: for a folder without an audit.

    Limits: where the audits scored different images, the difference mixes what the models do with which images they
    met. Where some images are in both, without being all of them, the interval is wider than it need be.
    """
    first, second = (one if isinstance(one, Audited) else _opened(Path(one)) for one in (first, second))
    return _compared(first, second, _names(first, second, names))


def _opened(folder: Path) -> Audited:
    data, record, asked = load(folder)
    audit = Audited(data, record)
    audit.folder, audit.asked = folder, asked
    return audit


def _names(first: Audited, second: Audited, names: Sequence[str]) -> Names:
    if len(names) == 2 and names[0] != names[1]:
        return plain(names[0]), plain(names[1])
    if first.folder is not None and second.folder is not None:
        for one, other in (
            (first.folder.resolve().name, second.folder.resolve().name),
            (str(first.folder), str(second.folder)),
        ):
            if one != other:
                return plain(one), plain(other)
    return "first", "second"


def _compared(first: Audited, second: Audited, names: Names) -> Comparison:
    same_groups = set(first.data.test_groups) == set(second.data.test_groups)
    order = _same_images(first, second) if same_groups else None
    answers = [_answers(first), _answers(second)]
    audits = dict(zip(names, (first, second), strict=True))
    settings, shared = _settings(audits)
    rows, main = _accuracy(first, second, answers, same_groups, order)
    drawn = [
        audit.data.scored_images.evaluation(found[method], f"{method}, {name}")
        for method in answers[0]
        if method in answers[1]
        for (name, audit), found in zip(audits.items(), answers, strict=True)
    ]
    columns = _beside(("method", "measure"), "percent", names)
    if same_groups:
        columns["difference"] = Column("points", f"{names[1]} − {names[0]}")
    how = "of two independent samples" if order is None else "paired"
    same = [] if order is None else [name for name in answers[0] if _same_answers(name, answers, order)]
    if same:
        how += f"; of {', '.join(same)} both audits have the same prediction for every image: nothing differs"
    return Comparison(
        names=names,
        asked=(_asked(first), _asked(second)),
        settings=settings,
        shared=shared,
        verdicts=_verdicts(audits),
        conditions=_conditions(audits),
        heads=_heads(audits),
        accuracy=Table(rows, columns, f"Accuracy with 95 % intervals; that of the difference is {how}"),
        evaluations=tuple(drawn) if same_groups else (),
        fairness=_fairness(audits),
        collateral=_collateral(audits),
        paired=order is not None,
        same_groups=same_groups,
        same_model=first.store.fingerprint == second.store.fingerprint,
        main=main,
    )


Audits = Mapping[str, Audited]
"""Both audits by their names, the first one first."""


def _beside(what: Sequence[str], kind: Kind, names: Iterable[str]) -> dict[str, Kind | Column]:
    """Columns of text, then "first" and "second" under the audits' names."""
    columns: dict[str, Kind | Column] = dict.fromkeys(what, "text")
    return columns | {key: Column(kind, name) for key, name in zip(_KEYS, names, strict=True)}


# ---- what was asked -------------------------------------------------------------------------------------------------


def _asked(audit: Audited) -> str:
    return (
        f"{audit.store.model_name}: {listed(audit.task.classes)} by {audit.attribute.name}; "
        f"{len(audit.splits.reference)} reference and {len(audit.splits.test)} scored images"
    )


def _settings(audits: Audits) -> tuple[Table, dict[str, str]]:
    both = [reproduce.settings(audit.data, audit.record) for audit in audits.values()]
    every = [name for name in {**both[0], **both[1]} if name not in _OWN]
    rows = []
    for name in every:
        mine, theirs = (one.get(name, "not done") for one in both)
        if mine != theirs:
            rows.append((name, *_apart(mine, theirs)))
    shared = {name: both[0][name] for name in every if name in both[0] and both[0][name] == both[1].get(name)}
    frame = pd.DataFrame(rows, columns=["setting", "first", "second"])
    return Table(frame, _beside(["setting"], "text", audits), "Settings that differ"), shared


def _apart(first: str, second: str) -> tuple[str, str]:
    """Two texts; of long lists, the entries that only one has."""
    if max(len(first), len(second)) <= _LONG:
        return first, second
    entries = [re.split(r"(?<=[,;]) ", text) for text in (first, second)]
    bare = [{entry.rstrip(",;") for entry in one} for one in entries]
    only = []
    for mine, others in zip(entries, reversed(bare), strict=True):
        own = [entry for entry in mine if entry.rstrip(",;") not in others]
        text = " ".join(own).rstrip(",;")
        left = "" if len(own) == len(mine) else f" (and {len(mine) - len(own)} that both have)"
        only.append(f"{text or 'nothing more'}{left}")
    return only[0], only[1]


# ---- what was found -------------------------------------------------------------------------------------------------


def _judged_of(audit: Audited) -> dict[str, Judgement]:
    """The audit's verdicts, by what each is on."""
    found: dict[str, Judgement] = {}
    if (fairness := audit.fairness_results) is not None:
        found[f"bias by {audit.attribute.name}"] = fairness.verdict
    if audit.results is not None and (judged := audit.results.verdict) is not None:
        found[f"correction by {judged.method}"] = judged
    return found


def _verdicts(audits: Audits) -> pd.DataFrame:
    rows: list[tuple[str, str, str, str]] = []
    for name, audit in audits.items():
        found = _judged_of(audit)
        rows += [(name, on, one.word, " ".join((f"{one.headline}.", *one.remarks))) for on, one in found.items()] or [
            (name, "–", "none yet", "No step of this audit gives a verdict.")
        ]
    return pd.DataFrame(rows, columns=["audit", "on", "verdict", "in words"])


def _conditions(audits: Audits) -> Table:
    columns = ["audit", "on", "condition", "outcome", "numbers"]
    parts = [
        one.table().assign(audit=name, on=on) for name, audit in audits.items() for on, one in _judged_of(audit).items()
    ]
    frame = pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
    return Table(frame, caption="The conditions of each verdict.")


def _roles(audit: Audited) -> dict[HeadId, str]:
    found: dict[HeadId, list[str]] = {}
    if (located := audit.location) is not None:
        for role in ("spurious", "salient"):
            for head in getattr(located, role):
                found.setdefault(HeadId(*head), []).append(role)
    if audit.fairness_results is not None:
        for head in audit.fairness_results.candidates:
            found.setdefault(head, []).append("candidate")
    return {head: ", ".join(roles) for head, roles in found.items()}


def _heads(audits: Audits) -> Table:
    """Every head that either audit located."""
    names, both = list(audits), audits.values()
    roles, titles = [_roles(audit) for audit in both], [audit.titles for audit in both]
    rows = []
    for head in sorted({*roles[0], *roles[1]}):
        held = [one.get(head, "") for one in roles]
        where = "both" if all(held) else names[0] if held[0] else names[1]
        labels = [one.get(head, "not explained") for one in titles]
        rows.append((head, where, *(one or "–" for one in held), *labels))
    columns: dict[str, Kind | Column] = {"head": "head", "located_in": Column("text", "located in")}
    for what in ("role", "encodes"):
        columns |= {f"{what}_{key}": Column("text", f"{what}, {name}") for key, name in zip(_KEYS, names, strict=True)}
    caption = "Every head that either audit located, its role, and what it encodes"
    return Table(pd.DataFrame(rows, columns=list(columns)), columns, caption)


Answers = dict[str, Int[np.ndarray, "_"]]
"""Of each audit's own images, so that the lengths of two need not be the same."""


def _answers(audit: Audited) -> Answers:
    """The predicted classes of the scored images by method; zero-shot comes first."""
    found: Answers = {} if audit.results is None else dict(audit.results.predictions)
    if (fairness := audit.fairness_results) is not None:
        found.setdefault(ZERO_SHOT, fairness.predictions["before"])
        if fairness.candidates:
            found[CANDIDATES] = fairness.predictions["after"]
    return found or {ZERO_SHOT: audit.data.zero_shot}


def _same_answers(method: str, answers: list[Answers], order: Int[np.ndarray, "image"]) -> bool:
    """Whether both audits predict the same class of every image; the classes are counted alike in equal groups."""
    return method in answers[1] and np.array_equal(answers[0][method], answers[1][method][order])


def _judged(audit: Audited) -> str:
    """The method that the audit's verdict is about."""
    if audit.results is not None and audit.results.verdict is not None:
        return audit.results.verdict.method
    return CANDIDATES


def _correct(audit: Audited, predicted: Int[np.ndarray, "image"]) -> Bool[np.ndarray, "image"]:
    return np.asarray(predicted == audit.data.test_labels)


def _same_images(first: Audited, second: Audited) -> Int[np.ndarray, "image"] | None:
    """The order of the second audit's scored images in which they are the first's; None where they are others, or in
    other groups."""
    mine, theirs = first.splits.test, second.splits.test
    if len(mine) != len(theirs):
        return None
    where = first.store.places_of(second.store.manifest)[theirs]
    order = np.argsort(where, kind="stable")
    if not np.array_equal(where[order], np.sort(mine)):
        return None
    order = order[np.argsort(np.argsort(mine, kind="stable"), kind="stable")]
    return order if np.array_equal(second.data.test_groups[order], first.data.test_groups) else None


def _accuracy(
    first: Audited,
    second: Audited,
    answers: list[Answers],
    same_groups: bool,
    order: Int[np.ndarray, "image"] | None,
) -> tuple[pd.DataFrame, int | None]:
    """The rows, and which of them is the judged corrections' worst group."""
    pairs = [(method, method) for method in answers[0] if method in answers[1]]
    judged = (_judged(first), _judged(second))
    if judged not in pairs and judged[0] in answers[0] and judged[1] in answers[1]:
        pairs.append(judged)
    rows: list[dict[str, Any]] = []
    main = None
    for mine, theirs in pairs:
        before, after = answers[0][mine], answers[1][theirs]
        both = [first.data.scored_images.evaluation(before), second.data.scored_images.evaluation(after)]
        differences = _differences(first, second, before, after, both, order) if same_groups else {}
        groups = list(both[0].groups) if same_groups else []
        for key in (*_MEASURES, *(f"groups.{name}" for name in groups)):
            if key == "worst_group" and (mine, theirs) == judged:
                main = len(rows)
            row: dict[str, Any] = {
                "method": mine if mine == theirs else f"judged: {mine}; {theirs}",
                "measure": _MEASURES.get(key, key.removeprefix("groups.")),
            }
            for name, one in zip(_KEYS, both, strict=True):
                low, high = one.interval[key]
                row |= {name: _value(one, key), f"{name}_low": low, f"{name}_high": high}
            value, low, high = differences.get(key, (np.nan, np.nan, np.nan))
            rows.append(row | {"difference": value, "difference_low": low, "difference_high": high})
    return pd.DataFrame(rows), main


def _value(one: Evaluation, key: str) -> float:
    return one.groups[key.removeprefix("groups.")] if key.startswith("groups.") else float(getattr(one, key))


def _differences(
    first: Audited,
    second: Audited,
    before: Int[np.ndarray, "image"],
    after: Int[np.ndarray, "other_image"],
    both: list[Evaluation],
    order: Int[np.ndarray, "image"] | None,
) -> Mapping[str, tuple[float, float, float]]:
    """The second minus the first, with the interval's ends, by measure."""
    if order is None:
        one, other = both
        return {
            key: independent_difference((_value(one, key), one.interval[key]), (_value(other, key), ends))
            for key, ends in other.interval.items()
        }
    mine, theirs = _correct(first, before), _correct(second, after)[order]
    found = paired_difference(
        np.ones(len(mine), dtype=int),
        theirs.astype(int),
        baseline=mine.astype(int),
        groups=first.data.test_groups,
        cluster=first.data.test_clusters,
    )
    return {key: (value, *found.interval[key]) for key, value in found.difference.items()}


def _fairness(audits: Audits) -> Table:
    """Each audit's measures before and after the ablation of its candidates, with the change's interval."""
    results = {name: found for name, audit in audits.items() if (found := audit.fairness_results) is not None}
    rows = [found.shown().frame.assign(audit=name) for name, found in results.items()]
    columns: dict[str, Kind | Column] = {
        "audit": "text",
        "measure": "text",
        "before": "value",
        "after": "value",
        "difference": Column("difference", "change"),
    }
    frame = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()
    return Table(frame, columns, "Before and after the ablation of each audit's own candidates")


def _collateral(audits: Audits) -> Table:
    """What the judged correction of each audit changes elsewhere."""
    rows: dict[str, dict[str, Any]] = {}
    for key, audit in zip(_KEYS, audits.values(), strict=True):
        results = audit.collateral_results
        if results is None or (one := results.methods.get(_judged(audit))) is None:
            continue
        for task, value in one.difference.items():
            low, high = one.interval[task]
            rows.setdefault(task, {"task": task}).update({key: value, f"{key}_low": low, f"{key}_high": high})
    ends = [f"{key}{end}" for key in _KEYS for end in ("", "_low", "_high")]
    frame = pd.DataFrame(rows.values(), columns=["task", *ends]).astype(dict.fromkeys(ends, float))
    return Table(frame, _beside(["task"], "points", audits), "Change of accuracy elsewhere, with 95 % intervals")
