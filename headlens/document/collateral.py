"""What correcting cost elsewhere: other attributes and tasks, single classes, and what is near what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from headlens import plots
from headlens.document.blocks import Section
from headlens.metrics import Collateral
from headlens.steps.collateral import CANDIDATES, CollateralResults, Kind, OtherTask
from headlens.tables import listed, percent

if TYPE_CHECKING:
    from headlens.steps.audited import Audited

TITLE = "What it cost elsewhere"
_NOTHING_CORRECTED = "Nothing was corrected, so that nothing changed elsewhere."
_NOT_MEASURED = "Whether the correction costs other tasks was not measured."


def elsewhere_section(audit: Audited) -> Section:
    """Everything that `audit.collateral()` found, or that it was not called."""
    found = audit.collateral_results
    if found is None and not audit.corrections and audit.fairness_results is None:
        return Section(TITLE, _NOTHING_CORRECTED, brief=(_NOTHING_CORRECTED,))
    if found is None:
        none = f"{_NOT_MEASURED} audit.collateral() does that."
        return Section(TITLE, none, brief=(none,))
    if not found.methods:
        return Section(TITLE, " ".join(found.notes), brief=found.notes)
    others = [task.name for task in found.tasks if task.kind == "other"]
    named = " and ".join(others) if len(others) < 3 else listed(others)
    asked = f"were asked for {named} as well" if others else "are counted class by class"
    itself = [task.name for task in found.tasks if task.kind == "attribute"]
    meant = f" A loss on {itself[0]} itself is intended where the correction removes it." if itself else ""
    paragraphs = [
        "A correction changes the embedding of an image, which serves other questions too. So the same scored images "
        f"{asked}, with and without it. Only a change whose 95 % interval leaves zero is called a rise or a fall."
        + meant,
        *_sentences(found),
        " ".join(found.notes),
    ]
    return Section(
        TITLE,
        "\n\n".join(paragraphs),
        plots.collateral(found),
        caption="Change of accuracy on the scored images, with 95 % bootstrap intervals; before and after are paired. "
        "Of many tasks, some leave zero by chance.",
        table=replace(
            found.shown(),
            caption="Accuracy of other tasks and of single classes before and after; guessing is the share of the most "
            "frequent answer.",
        ),
        brief=(*_sentences(found), *found.notes),
    )


def _sentences(found: CollateralResults) -> list[str]:
    """What each method did, one text a method."""
    return [f"With {method}: {_told(found, method)}" for method in found.methods]


def elsewhere_verdict(audit: Audited) -> str:
    """The cost of the judged method in a sentence, for the verdict."""
    found = audit.collateral_results
    verdict = None if audit.results is None else audit.results.verdict
    judged = CANDIDATES if verdict is None else verdict.method
    if found is None or judged not in found.methods:
        return _NOT_MEASURED
    one = found.methods[judged]
    asked = [task for task in found.tasks if task.kind != "attribute" and task.name in one.difference]
    lost = [task for task in asked if _falls(one, task)]
    others = [task.name for task in asked if task.kind == "other"]
    if lost:
        return f"It has a cost: {_moves(one, lost)}."
    if not others:
        return "No class loses accuracy by more than chance; other tasks were not measured."
    what = " nor ".join(others) if len(others) <= 4 else f"any of {len(others)} other tasks"
    return f"No cost in accuracy was found elsewhere: neither a class nor {what} loses by more than chance."


def _told(found: CollateralResults, method: str) -> str:
    one = found.methods[method]
    moved = "; ".join(filter(None, (_of_kind(found, one, "other"), _of_kind(found, one, "class"))))
    parts = [f"{moved}."] if moved else []
    for task in (task for task in found.tasks if task.kind == "attribute" and task.name in one.before):
        parts.append(
            f"Asked for {task.name} itself, {percent(one.before[task.name])} % of the answers are right before and "
            f"{percent(one.after[task.name])} % after{_guess(task)}."
        )
    if method in found.neighbours:
        (share,) = found.neighbours[method].values.values()
        chance = found.k / (found.compared - 1)
        parts.append(
            f"Of the {found.k} images nearest to an image, {percent(share)} % stay among its {found.k} nearest "
            f"({percent(chance)} % would by chance; {found.compared:,} images compared)."
        )
    return " ".join(parts)


def _guess(task: OtherTask) -> str:
    return "" if task.guess is None else f" (guessing: {percent(task.guess)} %)"


def _of_kind(found: CollateralResults, one: Collateral, kind: Kind) -> str:
    tasks = [task for task in found.tasks if task.kind == kind and task.name in one.difference]
    still = [task for task in tasks if one.interval[task.name][0] <= 0 <= one.interval[task.name][1]]
    moved = [task for task in tasks if task not in still]
    parts = [_moves(one, moved)] if moved else []
    if still:
        names = listed((task.name for task in still), 6)
        parts.append(f"{names} {'changes' if len(still) == 1 else 'change'} by no more than chance")
    return "; ".join(parts)


def _moves(one: Collateral, tasks: Iterable[OtherTask]) -> str:
    """ "species falls by 12.1 points (49.1 % to 37.0 %), …", the largest loss first."""
    parts = []
    for task in sorted(tasks, key=lambda task: one.difference[task.name]):
        change, ends = one.difference[task.name], (one.before[task.name], one.after[task.name])
        parts.append(
            f"{task.name} {'falls' if change < 0 else 'rises'} by {percent(abs(change))} points "
            f"({percent(ends[0])} % to {percent(ends[1])} %)"
        )
    return listed(parts, 6)


def _falls(one: Collateral, task: OtherTask) -> bool:
    return one.interval[task.name][1] < 0
