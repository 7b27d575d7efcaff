"""What `headlens demo` does: render a world of the testbed to files, and take the path that real data takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headlens.audit import Audit
from headlens.audit.folder import fairness_record
from headlens.cli import show_fairness
from headlens.cli.finish import finish, wants_report
from headlens.cli.inputs import card_pairs, refuse_early
from headlens.cli.run_audit import finish_audit
from headlens.cli.run_fairness import steps
from headlens.extraction import extract
from headlens.loading import load
from headlens.prompts import Attribute, ZeroShotTask
from headlens.report.steps import take_missing

_MODELS = {"birds": "testbed", "figures": "testbed-figures"}


def run_demo(
    world: str,
    model: str | None,
    out: Path,
    *,
    images: int | None,
    draws: int,
    bootstrap: int,
    seed: int,
    as_json: bool,
    open_report: bool | None,
) -> None:
    """Birds: locate, correct, judge. Figures: find candidates, explain, ablate, judge, and the negative control."""
    from headlens import testbed

    name = model or _MODELS[world]
    card = testbed.card(name, world)
    audit = _audit(name, world, card, out, images, seed)
    planted = [tuple(head) for head in card["planted_heads"]]
    wanted = wants_report(as_json, open_report)
    if world == "birds":
        audit.locate()
        audit.evaluate(draws=draws, bootstrap=bootstrap)
        finish_audit(audit, out, [], as_json=as_json, open_report=wanted, planted=planted)
        return
    steps(
        audit,
        locator="concept+textspan",
        first=5,
        texts=10,
        total=500,
        permutations=1000,
        draws=draws,
        bootstrap=bootstrap,
    )
    take_missing(audit)
    audit.save(out)
    control = audit.with_attribute(Attribute(card["control"]["name"], card["control"]["values"]))
    control.locate("concept+textspan")
    told = control.fairness(draws=draws, bootstrap=bootstrap, total=0)
    record = fairness_record(audit) | {
        "planted": [list(head) for head in planted],
        "negative_control": told.to_dict(),
    }

    def show(report: Path) -> None:
        show_fairness.fairness(audit, report, planted=planted)
        show_fairness.negative_control(told)

    finish(audit, out, record, show, [], as_json=as_json, open_report=wanted)


def _audit(model: str, world: str, card: dict[str, Any], out: Path, images: int | None, seed: int) -> Audit:
    from headlens import testbed

    clip = load(model)
    task = ZeroShotTask(card["classes"], card["templates"])
    attribute = Attribute(card["attribute"]["name"], card["attribute"]["values"])
    manifest = testbed.images(out / "images", n=images, world=world)
    refuse_early(out, clip, manifest, task, attribute, ("val", "test"), seed)
    return Audit(
        clip,
        extract(clip, manifest, out / "store.zarr"),
        task,
        attribute,
        pairs=card_pairs(card, task),
        spurious_pairs=[tuple(pair) for pair in card["spurious_pairs"]],
        seed=seed,
    )
