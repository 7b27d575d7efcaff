"""A benchmark's report: the table first, then the figures behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from headlens import plots
from headlens.audit import Audit
from headlens.benchmark.head_sets import attribute_location, caption_figure, head_sets, set_maps
from headlens.benchmark.table import BenchmarkTable
from headlens.document import Section, write
from headlens.document.audit import audit_document
from headlens.document.correction import LIMITS, correction_controls
from headlens.document.figures import margins_of
from headlens.document.heads import heads_section
from headlens.errors import ExplainError, ImageError, LocateError
from headlens.heads import HeadId
from headlens.locate import Location
from headlens.manifest import candidate_indices
from headlens.tables import Column, Table

FIGURED = ("zero-shot", "roboshot", "ortho-cali", "ablation", "ltc", "last-layer retraining")
_MOST_GROUPS = 12


def write_report(
    table: BenchmarkTable,
    audit: Audit,
    path: str | Path,
    *,
    images: int = 4,
    kinds: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write the table, its figures and how to repeat it as one self-contained HTML file.

    Args:
        table: what `run` returned.
        audit: the audit behind it.
        path: the file.
        images: how many images to draw per-token maps for.
        kinds: words of captions by kind; by default the names of the classes and of the attribute's values.
    """
    assert audit.results is not None
    verdict = audit.results.verdict
    assert verdict is not None
    whole = audit_document(audit, images=0)
    return write(
        replace(
            whole,
            title=f"Benchmark {table.suite}, {table.model}",
            verdict=[f"{verdict.headline}.", *verdict.remarks],
            notes=table.footnotes(),
            sections=[*_tables(table), *figures(audit, images, kinds)],
            commands={},
            limits=LIMITS,
        ),
        path,
    )


def _tables(table: BenchmarkTable) -> list[Section]:
    shown, of_row = table.shown(), {i: name for name, rows in table.families().items() for i in rows}
    frame = shown.frame.assign(family=[of_row[i] for i in range(len(shown.frame))])
    name, *others = shown.columns
    columns = {name: shown.columns[name], "family": Column("text", "what it is")}
    whole = Table(frame, columns | {one: shown.columns[one] for one in others}, "See the notes above.")
    sections = [Section("All methods", table=whole)]
    sections += [Section(extra.title, extra.note, table=extra.shown()) for extra in table.extras]
    return [*sections, *_by_class(table)]


def _by_class(table: BenchmarkTable) -> list[Section]:
    """The salient heads of each class, where they were located so."""
    if table.heads is None or not table.heads.by_class:
        return []
    heads = {name: ", ".join(str(HeadId(*one)) for one in own) for name, own in table.heads.by_class.items()}
    frame = pd.DataFrame({"class": list(heads), "salient heads": [own or "none" for own in heads.values()]})
    what = "Those that an image gets whose class is taken to be this."
    return [Section("Salient heads of each class", what, table=Table(frame))]


def figures(audit: Audit, images: int = 4, kinds: Mapping[str, Sequence[str]] | None = None) -> list[Section]:
    """The sections with figures, as far as there is something to draw."""
    assert audit.results is not None
    sections = [heads_section(audit)]
    attribute = None
    with suppress(LocateError):
        attribute = attribute_location(audit)
    if attribute is not None and isinstance(audit.location, Location):
        sections.append(_attribute(audit, attribute))
    if len(next(iter(audit.results.evaluations.values())).groups) <= _MOST_GROUPS:
        shown = [one for name, one in audit.results.evaluations.items() if name in FIGURED]
        caption = "Accuracy of some methods, with 95 % intervals."
        sections.append(Section("Group by group", "", plots.groups(shown, chance=1 / len(audit.task.classes)), caption))
    return [
        *sections,
        *_margins(audit),
        *_occupations(audit),
        *correction_controls(audit),
        *_sets(audit, attribute, images, kinds),
    ]


def _attribute(audit: Audit, attribute: Location) -> Section:
    return Section(
        "Heads of the attribute",
        f"The heads that decide where {audit.attribute.name} is predicted correctly, in its own zero-shot task: Z_S.",
        plots.location(attribute),
    )


def _margins(audit: Audit) -> list[Section]:
    assert audit.results is not None
    assert audit.results.verdict is not None
    judged = audit.results.verdict.method
    if judged not in audit.corrections:
        return []
    values = margins_of(audit.data, {judged: audit.corrections[judged]})
    groups = audit.data.test_groups
    before = audit.results.evaluations["zero-shot"].groups
    worst = sorted(before, key=lambda name: before[name])[:_MOST_GROUPS]
    kept = np.isin(groups, worst)
    left = f" The {_MOST_GROUPS} groups with the lowest accuracy at zero-shot." if len(before) > len(worst) else ""
    return [
        Section(
            "By how much: margins",
            "The score of the true class less the highest of its other candidate classes. Injection "
            f"sets the heads' lengths anew, so compare where zero is, not how wide a box is.{left}",
            plots.margins({name: own[kept] for name, own in values.items()}, groups[kept].tolist(), unit="score"),
        )
    ]


def _occupations(audit: Audit) -> list[Section]:
    """Where the manifest records who holds an occupation: gaps before and after, beside that."""
    manifest = audit.store.manifest
    if not {"percent_women", "candidates"} <= set(manifest.columns) or len(audit.attribute.value_names) != 2:
        return []
    assert audit.results is not None
    assert audit.results.verdict is not None
    sections = []
    for name in dict.fromkeys(("zero-shot", audit.results.verdict.method)):
        found = _described(audit, audit.results.predictions[name])
        if found:
            first, second = audit.attribute.value_names
            figure = plots.occupations(found, (first, second))
            sections.append(Section(f"Occupations ({name})", "", figure))
    return sections


def _described(audit: Audit, predicted: np.ndarray) -> list[plots.Occupation]:
    labels, values, names = audit.data.test_labels, audit.data.test_values, audit.task.classes
    manifest = audit.data.test.manifest
    two = candidate_indices(manifest, names)
    found = []
    for label in np.unique(labels):
        members = [(labels == label) & (values == value) for value in (0, 1)]
        if all(one.any() for one in members):
            first = int(np.flatnonzero(labels == label)[0])
            others = [one for one in two[first] or () if one != label]
            found.append(
                plots.Occupation(
                    name=names[label],
                    counterpart=names[others[0]] if others else "",
                    percent_women=float(manifest["percent_women"].iloc[first]),
                    accuracy=tuple(float((predicted[one] == label).mean()) for one in members),  # type: ignore[arg-type]
                    sizes=tuple(int(one.sum()) for one in members),  # type: ignore[arg-type]
                )
            )
    return found


def _sets(
    audit: Audit, attribute: Location | None, images: int, kinds: Mapping[str, Sequence[str]] | None
) -> list[Section]:
    """Where the sets of heads read, and which words they go with."""
    sets = head_sets(audit, attribute)
    described = "; ".join(
        f"{name}: {', '.join(map(str, heads))}" for name, heads in sets.items() if len(heads) < audit.store.n_heads
    )
    sections = []
    if images and audit.clip is not None:
        with suppress(ImageError):
            sections.append(
                Section(
                    "Where the sets of heads read",
                    "What the heads of a set contribute together, patch by patch, along the predicted class less the "
                    f"candidate class that it is compared with: orange speaks for the prediction. {described}.",
                    set_maps(audit, sets, images),
                )
            )
    words = kinds or {"class": audit.task.classes, "attribute": audit.attribute.value_names}
    try:
        drawn = caption_figure(audit, sets, words)
    except ExplainError as error:
        return [*sections, Section("Words of captions", f"Not drawn: {error}")]
    if drawn is not None:
        figure, shares = drawn
        sections.append(
            Section(
                "Which words the sets of heads go with",
                f"Shapley values of the words of {len(shares.captions)} captions for the cosine with the heads' summed "
                "output, by kind of word; the share of a kind is that of the sizes of its words' values.",
                figure,
            )
        )
    return sections
