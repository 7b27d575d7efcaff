"""An audit as a report: the verdict first, then heads, corrections, controls, pictures, and how to repeat it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from headlens import plots
from headlens._version import __version__
from headlens.metrics import SMALL
from headlens.report.content import ReportContent, Section
from headlens.report.pictures import token_figure
from headlens.report.write import write

if TYPE_CHECKING:
    from headlens.audit import Audit

_LIMITS = (
    "Location and corrections here are direct: they change what a head writes into the embedding, and leave what later "
    "layers make of it as it was.",
    "The result holds for this model, these images and these prompts. Other prompts for the same classes can move "
    "every number.",
    "A correction that helps the worst group usually costs the groups that the bias favoured; compare the bars.",
    "A corrected model is not a fair model: only the named classes and attribute were looked at.",
)


def write_report(audit: Audit, path: Path, images: int) -> Path:
    """See `Audit.report`. Steps that were not taken yet are taken first."""
    if audit.results is None:
        audit.evaluate()
    return write(content(audit, images), path)


def content(audit: Audit, images: int = 4) -> ReportContent:
    """The report's content, without writing it."""
    results, location = audit.results, audit.location
    assert results is not None
    assert location is not None
    verdict = results.verdict
    sections = [_methods(audit), _heads(audit), _groups(audit), *_controls(audit)]
    figure = token_figure(audit, images) if images else None
    if figure is not None:
        sections.append(
            Section(
                "Where the heads read",
                "Images that zero-shot gets wrong. Each map shows, patch by patch, what a head contributes along the "
                "difference between the predicted and the true class: orange pushes towards the mistake, blue against.",
                figure,
            )
        )
    return ReportContent(
        title=f"{', '.join(audit.task.classes)} by {audit.attribute.name}",
        verdict=verdict.sentence,
        tone="good" if verdict.supported else "caution",
        question=_question(audit),
        notes=_notes(audit),
        sections=sections,
        settings=_settings(audit),
        command=_command(audit),
        limits=_LIMITS,
    )


def _question(audit: Audit) -> dict[str, object]:
    inferred = " (inferred zero-shot: the manifest has no such column)" if audit.inferred else ""
    return {
        "Model": audit.store.model_name,
        "Images": f"{len(audit.splits.test)} scored, {len(audit.splits.reference)} to locate and fit on",
        "Classes": ", ".join(audit.task.classes),
        "Attribute": f"{audit.attribute.name}: {', '.join(audit.attribute.value_names)}{inferred}",
    }


def _notes(audit: Audit) -> list[str]:
    notes = [audit.splits.note, audit.location_note]
    if audit.inferred:
        notes.append(
            f"The values of {audit.attribute.name} are inferred zero-shot; groups inherit the model's mistakes."
        )
    assert audit.results is not None
    sizes = next(iter(audit.results.evaluations.values())).sizes
    if small := [f"{name} ({size})" for name, size in sizes.items() if size < SMALL]:
        notes.append(f"Groups under {SMALL} images, whose accuracy says little: {', '.join(small)}.")
    if not audit.pairs_given:
        notes.append(
            "No text pairs were given for knowledge injection: the class prompts themselves stand in, which is weak."
        )
    if len(audit.store.skipped):
        notes.append(f"{len(audit.store.skipped)} images could not be read and were left out.")
    return notes


def _methods(audit: Audit) -> Section:
    assert audit.results is not None
    rows = []
    for record in audit.results.records():
        cells = {"method": record["method"]}
        for name, heading in (("average", "average"), ("worst_group", "worst group"), ("gap", "gap")):
            low, high = record["interval"][name]
            cells[heading] = f"{100 * record[name]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        rows.append(cells)
    return Section(
        "What correcting does",
        table=pd.DataFrame(rows),
        table_caption="Accuracy in per cent, with 95 % bootstrap intervals over images; for random heads the central "
        "95 % of the draws. The gap is average less worst group.",
    )


def _heads(audit: Audit) -> Section:
    location = audit.location
    assert location is not None
    spurious, salient = (", ".join(map(str, heads)) or "none" for heads in (location.spurious, location.salient))
    frame = location.table()
    for column in ("V_C", "V_W", "difference"):
        frame[column] = [f"{100 * value:.1f}" for value in frame[column]]
    return Section(
        "Which heads",
        f"Spurious heads: {spurious}. Salient heads: {salient}. Located on {location.n_wrong} wrongly and "
        f"{location.n_correct} rightly classified images of the conflicting groups; a head is named where the shares "
        f"differ by more than {100 * location.threshold:.1f} points.",
        plots.location(location),
        caption="The share of images whose decision rests most on each head: right ones (V_C), wrong ones (V_W).",
        table=frame,
        table_caption="Every head that decided an image, in per cent of the images.",
    )


def _groups(audit: Audit) -> Section:
    assert audit.results is not None
    return Section(
        "Group by group",
        figure=plots.groups(list(audit.results.evaluations.values()), chance=1 / len(audit.task.classes)),
        caption="Accuracy before and after, with 95 % bootstrap intervals.",
    )


def _controls(audit: Audit) -> list[Section]:
    assert audit.results is not None
    sections = []
    for name, control in audit.results.controls.items():
        compared = control.comparison
        kind = "every possible set" if control.exhaustive else f"drawn with seed {control.seed}"
        z = f", z = {compared.z:.1f}" if np.isfinite(compared.z) else ""
        sections.append(
            Section(
                f"Would any heads do? ({name})",
                f"The same method with {len(control.sets)} sets of as many heads from the same layers ({kind}): mean "
                f"{100 * compared.mean:.1f} %, best {100 * compared.best:.1f} %, against "
                f"{100 * compared.observed:.1f} % with the located heads{z}, p = {compared.p:.3f}.",
                plots.controls(control.worst_group, control.observed, control.baseline),
            )
        )
    return sections


def _settings(audit: Audit) -> dict[str, object]:
    assert audit.results is not None
    verdict = audit.results.verdict
    first = next(iter(audit.results.evaluations.values()))
    return {
        "headlens": __version__,
        "model": audit.store.model_name,
        "fingerprint": audit.store.fingerprint,
        "audit": audit.identity,
        "templates": list(audit.task.templates),
        "attribute prompts": {value: list(prompts) for value, prompts in audit.attribute.values.items()},
        "pairs for injection": [list(pair) for pair in audit.pairs],
        "splits": f"{audit.reference_name} (reference), {audit.test_name} (scored)",
        "locator": audit.location.method if audit.location else "",
        "bootstrap draws": first.draws,
        "seed": audit.seed,
        "verdict rule": f"gain above {100 * verdict.minimum_gain:.0f} points, p at most {verdict.alpha}",
    }


def _command(audit: Audit) -> str:
    values = {value: list(prompts) for value, prompts in audit.attribute.values.items()}

    def quoted(value: object) -> str:
        return json.dumps(value, ensure_ascii=False)

    # A model's label is its name, followed in brackets by its weights where these have a name of their own.
    architecture, _, weights = audit.store.model_name.removesuffix(")").partition(" (")
    name = quoted(architecture) + (f", pretrained={quoted(weights)}" if weights else "")
    return "\n".join(
        [
            "import headlens as hl",
            f"clip = hl.load({name})",
            f"store = hl.HeadStore.open({quoted(str(audit.store.path))}, clip)",
            f"task = hl.ZeroShotTask({quoted(list(audit.task.classes))}, {quoted(list(audit.task.templates))})",
            f"attribute = hl.Attribute({quoted(audit.attribute.name)}, {quoted(values)})",
            f"pairs = {quoted([list(p) for p in audit.pairs]) if audit.pairs_given else 'None'}",
            "audit = hl.Audit(",
            f"    clip, store, task, attribute, pairs=pairs, seed={audit.seed},",
            f"    reference={quoted(audit.reference_name)}, test={quoted(audit.test_name)},",
            ")",
            "audit.locate()",
            f"audit.evaluate({quoted(list(audit.corrections))})",
        ]
    )
