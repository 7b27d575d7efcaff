"""Two audits beside each other as a document: what differs in the question, in the verdicts and in every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from headlens import plots
from headlens.document.blocks import Document, Section, Tile
from headlens.document.formatting import few, today
from headlens.plots.style import shorten
from headlens.steps.audited import Audited
from headlens.steps.compare import Comparison
from headlens.steps.compare import compare as compare_audits
from headlens.tables import Column, listed, percent, points

LIMITS = (
    "A difference between two audits is a difference between everything in which they differ: change one thing at a "
    "time to learn what it does.",
    "The interval of a difference is about sampling images. It does not say how far other prompts, another seed or "
    "another training run would move it; of many groups, some differ by chance.",
    "Two verdicts with different words need not differ: one may just miss a condition that the other just meets. Look "
    "at the difference and its interval.",
)


def compare(first: Audited | str | Path, second: Audited | str | Path, names: Sequence[str] = ()) -> Document:
    """Put two audits side by side: questions, verdicts, heads, accuracies by group, fairness, and cost elsewhere.

    Neither audit is run again, and no model is loaded. Show the document with `headlens.document`: `write(document,
    "compared.html")` for a page, `markdown(document)`, `show(document)` in a terminal or a notebook.

    Args:
        first, second: audits, or the folders that they were saved to. Differences are the second minus the first.
        names: what to call them; by default the names of their folders.

    Raises:
        OutputError: for a folder without an audit.
    """
    found = compare_audits(first, second, names)
    return comparison_document(found, date=today())


def comparison_document(found: Comparison, date: str = "") -> Document:
    """A comparison as a document."""
    first, second = found.names
    sections = [
        _settings(found),
        _verdicts(found),
        _heads(found),
        *_accuracy(found),
        *_fairness(found),
        *_collateral(found),
    ]
    return Document(
        title=f"{shorten(first, 60)} compared with {shorten(second, 60)}",
        verdict=_sentences(found),
        tiles=_tiles(found),
        question=dict(zip(found.names, found.asked, strict=True)),
        notes=_notes(found),
        sections=sections,
        settings=found.shared,
        limits=LIMITS,
        date=date,
    )


def _words(found: Comparison, name: str) -> str:
    """An audit's verdicts in a few words."""
    rows = found.verdicts[found.verdicts["audit"] == name]
    return "; ".join(rows["verdict"])


def _tiles(found: Comparison) -> list[Tile]:
    tiles = [Tile(f"Verdict, {name}", _words(found, name)) for name in found.names]
    where = found.heads.frame["located_in"].value_counts()
    shared = int(where.get("both", 0))
    tiles.append(Tile("Located heads", f"{shared} shared", f"{len(found.heads.frame) - shared} in one audit alone"))
    if found.main is not None:
        row = found.accuracy.frame.iloc[found.main]
        note = row["method"]
        if found.same_groups:
            note += f"; difference {points(row['difference'])} points"
        tiles.append(Tile("Worst group", f"{percent(row['first'])} | {percent(row['second'])} %", note))
    return tiles


def _sentences(found: Comparison) -> list[str]:
    first, second = found.names
    differ = list(found.settings.frame["setting"])
    sentences = [f"What differs: {listed(differ, 10)}." if differ else "Nothing that was asked differs."]
    words = [_words(found, name) for name in found.names]
    if words[0] == words[1]:
        sentences.append(f"Both verdicts: {words[0]}.")
    else:
        sentences.append(f"Verdict of {first}: {words[0]}; of {second}: {words[1]}.")
    if found.main is not None:
        row = found.accuracy.frame.iloc[found.main]
        one = f"Worst-group accuracy ({row['method']}) is {percent(row['first'])} % in {first} and "
        one += f"{percent(row['second'])} % in {second}"
        sentences.append(f"{one}, a difference of {_in_points(row)}." if found.same_groups else f"{one}.")
    return sentences


def _in_points(row: Mapping[str, Any] | pd.Series) -> str:
    """ "+3.1 points (95 % interval +0.4 to +5.8)"."""
    low, high = points(row["difference_low"]), points(row["difference_high"])
    return f"{points(row['difference'])} points (95 % interval {low} to {high})"


def _notes(found: Comparison) -> list[str]:
    if found.paired:
        notes = ["Both score the same images in the same groups: differences are paired."]
    elif found.same_groups:
        notes = [
            "The scored images are not the same: intervals of differences are those of two independent samples, and a "
            "difference may come from the images."
        ]
    else:
        notes = ["The groups are not the same: accuracies stand beside each other, and no difference is taken."]
    if not found.same_model:
        notes.append(
            "The models differ: a head of the same name need not do the same in both, unless one was fine-tuned from "
            "the other."
        )
    if found.evaluations:
        notes.append(few(found.evaluations[0].sizes))
    return [note for note in notes if note]


def _settings(found: Comparison) -> Section:
    if found.settings.frame.empty:
        return Section("What differs", "Model, images, question and steps are the same.", brief=())
    count = len(found.settings.frame)
    return Section(
        "What differs",
        f"{'One setting differs' if count == 1 else f'{count} settings differ'}. Of long lists, the entries that one "
        "audit alone has are shown. Settings that are the same stand at the end of the page.",
        table=found.settings,
        brief=(),
        brief_table=True,
    )


def _verdicts(found: Comparison) -> Section:
    sentences = [f"{row['audit']}: {row['in words']}" for row in found.verdicts.to_dict("records")]
    return Section(
        "Verdicts",
        "\n\n".join(sentences),
        table=None if found.conditions.frame.empty else found.conditions,
        brief=sentences,
        brief_table=True,
    )


def _heads(found: Comparison) -> Section:
    if found.heads.frame.empty:
        return Section("Located heads", "Neither audit located a head.", brief=("Neither audit located a head.",))
    where = found.heads.frame["located_in"].value_counts()
    counts = listed(f"{count} in {name}{'' if name == 'both' else ' alone'}" for name, count in where.items())
    return Section(
        "Located heads",
        f"Located: {counts}.",
        table=found.heads,
        brief=(f"Located: {counts}.",),
        brief_table=True,
    )


def _accuracy(found: Comparison) -> list[Section]:
    table = found.accuracy
    text = "Each method that both audits scored, and the two that their verdicts are about."
    if found.same_groups:
        text += f" The difference is {found.names[1]} minus {found.names[0]}."
    short = table.frame["measure"].isin(["average", "worst group", "gap"])
    sections = [
        Section(
            "Accuracy",
            text,
            table=replace(
                table,
                frame=table.frame[short],
                caption=f"{table.caption}. The gap is average minus worst group.",
            ),
            brief=(f"{table.caption}.",),
            brief_table=True,
        )
    ]
    if found.evaluations:
        sections.append(
            Section(
                "Group by group",
                figure=plots.groups(found.evaluations),
                caption="Accuracy of each group by method and audit, with 95 % intervals.",
                table=replace(
                    table,
                    frame=table.frame[~short],
                    columns={**table.columns, "measure": Column("text", "group")},
                    caption=f"Every group. {table.caption}.",
                ),
                table_folded=True,
            )
        )
    return sections


def _fairness(found: Comparison) -> list[Section]:
    table = found.fairness
    if table.frame.empty:
        return []
    return [
        Section(
            "Fairness",
            "V is the association of the attribute with the predicted class, D the dependence within the true classes. "
            "Values of audits with other classes or another attribute are on other scales.",
            table=replace(table, caption=f"{table.caption}, with 95 % intervals of the change."),
            brief=(f"{table.caption}.",),
            brief_table=True,
        )
    ]


def _collateral(found: Comparison) -> list[Section]:
    table = found.collateral
    if table.frame.empty:
        return []
    return [
        Section(
            "Cost elsewhere",
            "The change of accuracy that each audit's judged correction brings on other tasks and on single classes.",
            table=replace(table, caption=f"{table.caption}; a dash: not measured."),
            brief=(f"{table.caption}.",),
            brief_table=True,
        )
    ]
