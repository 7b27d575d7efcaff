"""What every report of an audit says alike: what was asked, what to know before, and how to repeat it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from headlens._version import __version__
from headlens.locate import Candidates, Located, Location
from headlens.plots.style import shorten
from headlens.report.words import counted, few
from headlens.tables import plain

if TYPE_CHECKING:
    from headlens.audit import Audit
    from headlens.audit.collateral_results import CollateralResults


def attribute_name(audit: Audit) -> str:
    """The attribute, and that its values are inferred where they are."""
    return f"{audit.attribute.name} (inferred)" if audit.inferred else audit.attribute.name


def title(audit: Audit) -> str:
    """The report's heading: a few classes by name, many by their number; names that would fill a page are cut."""
    classes = counted([shorten(plain(name), 40) for name in audit.task.classes])
    inferred = " (inferred)" if audit.inferred else ""
    return f"{classes} by {shorten(plain(audit.attribute.name), 60)}{inferred}"


def question(audit: Audit) -> dict[str, object]:
    """The question in a sentence; model, images, classes and attribute."""
    inferred = " (inferred zero-shot: the manifest has no such column)" if audit.inferred else ""
    name = shorten(plain(audit.attribute.name), 60)
    return {
        "Question": f"When the model tells these classes apart, does it go by {name}? Which of its attention heads "
        "bring that about, and what does correcting them do?",
        "Model": audit.store.model_name,
        "Images": f"{len(audit.splits.test)} scored; {len(audit.splits.reference)} others, the reference, to find "
        "heads and fit corrections on",
        "Classes": ", ".join(audit.task.classes),
        "Attribute": f"{audit.attribute.name}: {', '.join(audit.attribute.value_names)}{inferred}",
    }


def notes(audit: Audit) -> list[str]:
    """What holds for every result of this audit: its parts, inferred values, small groups, images left out."""
    said = [audit.splits.note, audit.location_note]
    if audit.inferred:
        said.append(
            f"The values of {audit.attribute.name} are inferred zero-shot; groups inherit the model's mistakes."
        )
    names, sizes = np.unique([audit.groups[row] for row in audit.splits.test], return_counts=True)
    said.append(few(dict(zip(names.tolist(), sizes.tolist(), strict=True))))
    if len(audit.store.skipped):
        said.append(f"{len(audit.store.skipped)} images could not be read and were left out.")
    return [note for note in said if note]


def settings(audit: Audit) -> dict[str, object]:
    """Everything but the results' own settings."""
    return {
        "headlens": __version__,
        "model": audit.store.model_name,
        "fingerprint": audit.store.fingerprint,
        "audit": audit.identity,
        "templates": list(audit.task.templates),
        "attribute prompts": {value: list(prompts) for value, prompts in audit.attribute.values.items()},
        "attribute values": "inferred zero-shot" if audit.inferred else "from the manifest",
        "splits": f"{audit.reference_name} (reference), {audit.test_name} (scored)",
        "locator": audit.location.method if audit.location else "",
        **_locator_rule(audit),
        "seed": audit.seed,
    }


def _locator_rule(audit: Audit) -> dict[str, object]:
    location = audit.location
    rules: dict[str, object] = {}
    if isinstance(location, Candidates):
        if (concept := location.concept) is not None:
            rules["concept rule"] = dict(vars(concept.rule))
        if (spans := location.spans) is not None:
            rules["TextSpan rule"] = (
                f"the attribute among a head's first {spans.first} texts, against a bank of {spans.n_bank} texts,"
                f" and explains {100 * spans.minimum_share:.3g} % or more"
            )
    return rules


def command(audit: Audit) -> str:
    """Python that repeats the audit from its store."""
    values = {value: list(prompts) for value, prompts in audit.attribute.values.items()}
    # A model's label is its name, followed in brackets by its weights where these have a name of their own.
    architecture, _, weights = audit.store.model_name.removesuffix(")").partition(" (")
    name = _quoted(architecture) + (f", pretrained={_quoted(weights)}" if weights else "")
    lines = [
        "import headlens as hl",
        f"clip = hl.load({name})",
        f"store = hl.HeadStore.open({_quoted(str(audit.store.path))}, clip)",
        f"task = hl.ZeroShotTask({_quoted(list(audit.task.classes))}, {_quoted(list(audit.task.templates))})",
        f"attribute = hl.Attribute({_quoted(audit.attribute.name)}, {_quoted(values)})",
        f"pairs = {_quoted([list(p) for p in audit.pairs]) if audit.pairs_given else 'None'}",
        "audit = hl.Audit(",
        f"    clip, store, task, attribute, pairs=pairs, seed={audit.seed},",
        f"    reference={_quoted(audit.reference_name)}, test={_quoted(audit.test_name)},",
        *(["    skip_unlabelled=True,"] if audit.skip_unlabelled else []),
        ")",
        _locate(audit),
    ]
    if audit.results is not None:
        lines.append(f"audit.evaluate({_quoted(list(audit.corrections))})")
    if (found := audit.fairness_results) is not None:
        draws = "" if found.control is None else _draws(len(found.control.sets), found.control.exhaustive)
        whole = found.total
        total = "total=0" if whole is None else f"total={whole.images}, tokens={_quoted(whole.tokens)}"
        bootstrap, permutations = found.change.n_bootstrap, found.within.n_permutations
        lines.append(f"audit.fairness({draws}bootstrap={bootstrap}, permutations={permutations}, {total})")
    if audit.explanations:
        lines.append(_explain(audit))
    if audit.collateral_results is not None:
        lines.append(_collateral(audit.collateral_results))
    return "\n".join(lines)


def _locate(audit: Audit) -> str:
    location = audit.location
    if location is None or isinstance(location, Location):
        method = "" if location is None or location.method == "contrastive" else _quoted(location.method)
        return f"audit.locate({method})"
    if type(location) is Located:
        # Nothing located these here: they were carried over from another data set.
        spurious, salient = ([tuple(head) for head in own] for own in (location.spurious, location.salient))
        return f"audit.location = hl.locate.Located({_quoted(location.method)}, {spurious}, {salient})"
    options = ""
    if isinstance(location, Candidates):
        if (concept := location.concept) is not None:
            rule = ", ".join(f"{name}={value!r}" for name, value in vars(concept.rule).items())
            options += f", rule=hl.locate.ConceptRule({rule})"
        if (spans := location.spans) is not None:
            options += f", first={spans.first}, minimum_share={spans.minimum_share}"
    return f"audit.locate({_quoted(location.method)}{options})"


def _draws(sets: int, exhaustive: bool) -> str:
    """All possible sets are taken where more are asked for; a hundred is what is asked for by default."""
    if exhaustive and sets < 100:
        return ""
    return f"draws={sets + int(exhaustive)}, "


def _explain(audit: Audit) -> str:
    heads = [tuple(head) for head in audit.explanations]
    chosen = "" if len(heads) == audit.store.n_layers * audit.store.n_heads else f"{heads}, "
    return f"audit.explain({chosen}count={max(len(one.texts) for one in audit.explanations.values())})"


def _collateral(found: CollateralResults) -> str:
    """Tasks are written as attributes: both are names with prompts."""
    given = [task for task in found.tasks if task.kind == "other" and task.given]
    named = ", ".join(
        f"hl.Attribute({_quoted(one.name)}, {_quoted({value: list(texts) for value, texts in one.prompts.items()})})"
        for one in given
    )
    return f"audit.collateral({f'[{named}]' if named else ''})"


def _quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
