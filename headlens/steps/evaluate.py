"""Fitting corrections on the reference split, and scoring them on the test split, beside zero-shot and random heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from headlens.correct import Correction
from headlens.heads import HeadId
from headlens.locate import Located
from headlens.metrics import Evaluation, PairedDifference
from headlens.steps.controls import Cast, Draw, Predictions, RandomHeads, random_head_control
from headlens.steps.data import AuditData, predicted
from headlens.steps.methods import ROLES, Given, Ingredients, Method, Roles
from headlens.steps.null import Relocate, depends, permuted, relocated
from headlens.steps.record import Evaluate, Step
from headlens.steps.total import TotalGain, total_gain
from headlens.steps.verdicts import ALPHA, Asked, Judged, Measured, Null, Questions, Verdict, against_random, judge
from headlens.tables import Column, Kind, Shown, Table

Cache = Callable[[Correction, Callable[[], Predictions]], Predictions]
"""From an unfitted correction, and what would predict with it, to its predictions: made now, or kept from before."""

FitWith = Callable[[Correction], Correction]
"""From an unfitted correction to the fitted one: fitted now, or kept from before."""

ZERO_SHOT = "zero-shot"


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted correction, and what it was built on.

    Attributes:
        correction: the correction.
        located: the located heads that there were, by role; none for a correction of the user's own.
        roles: the roles whose heads it uses.
        locator: whose heads these are; "" where it uses none.
        given: what of the reference split's labels it was fitted on.
    """

    correction: Correction
    located: Cast = field(default_factory=dict)
    roles: Roles = ()
    locator: str = ""
    given: tuple[Given, ...] = ()

    @property
    def by_role(self) -> Cast:
        """The located heads that it uses, by role."""
        return {role: self.located[role] for role in self.roles}

    @property
    def heads(self) -> tuple[HeadId, ...]:
        """The heads that it uses: located ones, or those that a correction of the user's own names."""
        if self.roles:
            return tuple(head for heads in self.by_role.values() for head in heads)
        return tuple(getattr(self.correction, "heads", ()))


@dataclass(frozen=True, eq=False, repr=False)
class Evaluated(Shown):
    """The scored methods of an audit.

    Attributes:
        evaluations: each method's accuracies and their intervals; "zero-shot" comes first.
        predictions: each method's predicted class of every scored image.
        differences: each method minus zero-shot, with paired intervals.
        controls: the random-head controls, by method.
        verdict: what the numbers allow one to say of one method; None where none was to be judged.
        total: the ablation of the judged method's spurious heads inside the forward pass; None where it was not
            measured, and `total_note` says why.
    """

    evaluations: dict[str, Evaluation]
    predictions: dict[str, np.ndarray]
    differences: dict[str, PairedDifference]
    controls: dict[str, RandomHeads]
    verdict: Verdict | None
    total: TotalGain | None = None
    total_note: str = ""

    def records(self) -> list[dict[str, Any]]:
        """One record a method, controls last, in the form of `evaluation.json`; all accuracies are fractions."""
        methods = [evaluation.to_dict() for evaluation in self.evaluations.values()]
        return methods + [control.to_record() for control in self.controls.values()]

    def table(self, wide: bool = False) -> pd.DataFrame:
        """One row a method: average, worst group and gap in per cent, each with its 95 % interval, to be read.

        Args:
            wide: the numbers instead, as fractions, the ends of each interval in columns of their own.
        """
        return self._numbers() if wide else self.shown().text()

    def shown(self) -> Table:
        """The table, with the verdict's word as its caption."""
        columns: dict[str, Kind | Column] = {
            "method": "text",
            "average": "percent",
            "worst_group": Column("percent", "worst group"),
            "gap": "percent",
        }
        judged = "" if self.verdict is None else f"; {self.verdict.method}: {self.verdict.word}"
        return Table(self._numbers(), columns, f"Accuracy with 95 % intervals{judged}")

    def _numbers(self) -> pd.DataFrame:
        rows = []
        for record in self.records():
            row: dict[str, Any] = {"method": record["method"]}
            for name in ("average", "worst_group", "gap"):
                low, high = record["interval"][name]
                row |= {name: record[name], f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
        return pd.DataFrame(rows)


def ingredients(data: AuditData, located: Cast) -> Ingredients:
    """What registered methods build on, with these located heads."""
    rows = data.splits.reference
    return Ingredients(
        spurious=located.get("spurious", ()),
        salient=located.get("salient", ()),
        pairs=data.encoded_pairs,
        spurious_pairs=data.encoded(data.spurious_pairs),
        cross_pairs=data.encoded(data.crossed_pairs),
        classifier=data.classifier,
        spurious_prompts=data.texts(data.attribute_prompts),
        reference_labels=torch.as_tensor(data.labels[rows]),
        reference_values=torch.as_tensor(data.values[rows]),
        seed=data.question.seed,
    )


def fit_method(data: AuditData, method: Method, located: Located | None, fit: FitWith | None = None) -> Fitted:
    """Build a registered method on located heads, and fit it on the reference split.

    Args:
        data: the question's arrays.
        method: the method.
        located: the heads; None for a method that uses none.
        fit: fits the correction, where not on the reference split here and now.
    """
    heads: Cast = {}
    if located is not None:
        heads = {role: tuple(HeadId(*head) for head in getattr(located, role)) for role in ROLES}
    unfitted = method.build(ingredients(data, heads))
    correction = unfitted.fit(data.reference) if fit is None else fit(unfitted)
    locator = located.method if located is not None and method.roles else ""
    return Fitted(correction, heads, method.roles, locator, method.given)


def predict(data: AuditData, correction: Correction) -> Predictions:
    """The class of every scored image under a fitted correction."""
    logits = correction.logits(data.scored, data.scored.classifier)
    return predicted(data.among(logits, data.splits.test))


def evaluate(
    data: AuditData,
    call: Evaluate,
    fitted: Mapping[str, Fitted],
    methods: Mapping[str, Method],
    *,
    before: Step | None = None,
    cache: Cache | None = None,
    relocate: Relocate | None = None,
    asked: Sequence[Asked] = (),
) -> Evaluated:
    """Score zero-shot and fitted corrections on the test split, with intervals, controls and a verdict.

    Args:
        data: the question's arrays.
        call: what is scored, and how.
        fitted: the corrections, by name.
        methods: how those with a control are built, by the correction's name.
        before: an earlier evaluation of the same corrections; what its settings share with these is not made again.
        cache: keeps what random heads predict, for a run that may be interrupted.
        relocate: locates the judged method's heads anew, for the verdict's null.
        asked: what else was asked of these test images.
    """
    old: Evaluated = Evaluated({}, {}, {}, {}, None) if before is None else before.result

    def stands(*settings: str) -> bool:
        return before is not None and all(getattr(before.call, name) == getattr(call, name) for name in settings)

    scored = data.scored_images
    judged = None if call.judged is None else question_of(data, call.judged, fitted[call.judged])
    questions = None if judged is None else Questions.of(asked, judged)
    alpha = ALPHA / (1 if questions is None else len(questions))
    draw = Draw(data.store.n_layers, data.store.n_heads, call.n_random_sets, data.question.seed, alpha)
    predictions = {ZERO_SHOT: data.zero_shot}
    for name in call.methods:
        known = name in old.predictions
        predictions[name] = old.predictions[name] if known else predict(data, fitted[name].correction)
    evaluations = {name: old.evaluations.get(name) or scored.evaluation(one, name) for name, one in predictions.items()}
    differences = {
        name: old.differences.get(name) or scored.difference(predictions[name], data.zero_shot) for name in call.methods
    }
    # Fewer questions may have taken fewer sets.
    same_sets = stands("n_random_sets") and (old.verdict is None or old.verdict.alpha == alpha)
    controls = {
        shown: (old.controls.get(shown) if same_sets else None)
        or _control(data, shown, fitted[name], methods[name], draw, predictions[name], vary, cache)
        for name in call.controls
        for shown, vary in _roles_drawn(name, fitted[name]).items()
    }
    drawn = {shown: control for shown, control in controls.items() if control is not None}
    new = Evaluated(evaluations, predictions, differences, drawn, None)
    if call.judged is None or questions is None:
        return new
    one, method = fitted[call.judged], methods.get(call.judged)
    verdict = questions.added_to(_verdict(data, call, one, new, alpha))
    salient = drawn.get(f"{call.judged} salient")
    if salient is not None and verdict.word != "not supported":
        alone = against_random(salient, "worst_group", alpha)
        if alone.outcome != "met":
            verdict = verdict.with_remark(f"Its salient heads are not shown to matter by themselves: {alone.text}.")
    spurious = one.by_role.get("spurious", ())
    total: TotalGain | str = "The judged method ablates no heads."
    if spurious:
        same_total = old.total is not None and (old.total.heads, old.total.asked) == (spurious, call.total)
        total = old.total if same_total and old.total is not None else total_gain(data, spurious, call.total)
    if isinstance(total, TotalGain):
        verdict = verdict.with_remark(total.sentence)
        new = replace(new, total=total)
    else:
        new = replace(new, total_note=total)
    if call.n_null and (method is None or relocate is not None or not method.roles):
        kept = old.verdict if stands("n_null", "n_bootstrap", "n_random_sets") else None
        of_it = (verdict.method, verdict.heads, verdict.alpha)
        null = kept.null if kept is not None and (kept.method, kept.heads, kept.alpha) == of_it else None
        verdict = verdict.with_null(null or _null(data, call, one, method, new, relocate, alpha))
    return replace(new, verdict=verdict)


def _null(
    data: AuditData,
    call: Evaluate,
    fitted: Fitted,
    method: Method | None,
    scored: Evaluated,
    relocate: Relocate | None,
    alpha: float,
) -> Null:
    """The judged method's verdict with the attribute permuted within the true classes."""
    name = str(call.judged)
    draw = Draw(data.store.n_layers, data.store.n_heads, call.n_random_sets, data.question.seed, alpha)
    of_heads, named, claims = method is not None and bool(method.roles), 0, 0
    for other in permuted(data, call.n_null):
        located = relocated(other, relocate) if of_heads and relocate is not None else None
        named += located is not None and bool(located.spurious)
        if (of_heads and (located is None or not located.spurious)) or not depends(other, data.zero_shot, alpha=alpha):
            continue
        one = fitted if method is None else fit_method(other, method, located)
        classes = scored.predictions[name] if method is None else predict(other, one.correction)
        again = Evaluated(scored.evaluations, {**scored.predictions, name: classes}, {}, {}, None)
        found = _verdict(other, call, one, again, alpha)
        if of_heads and method is not None and found.word != "not supported":
            shown, vary = next(iter(_roles_drawn(name, one).items()))
            if (control := _control(other, shown, one, method, draw, classes, vary, None)) is not None:
                found = _verdict(other, call, one, replace(again, controls={name: control}), alpha)
        claims += found.supported
    return Null(call.n_null, named if of_heads else None, claims)


def _roles_drawn(name: str, fitted: Fitted) -> dict[str, Roles]:
    """The controls of a method, by the name they are shown under, and the roles that each draws: a method of spurious
    and salient heads has one for each, because either may do what the other is credited with."""
    roles = tuple(role for role in fitted.roles if fitted.located.get(role))
    if len(roles) < 2:
        return {name: roles}
    return {name if role == "spurious" else f"{name} {role}": (role,) for role in roles}


def _control(
    data: AuditData,
    name: str,
    fitted: Fitted,
    method: Method,
    draw: Draw,
    after: Predictions,
    vary: Roles,
    cache: Cache | None,
) -> RandomHeads | None:
    known = ingredients(data, fitted.located)

    def with_heads(cast: Cast) -> Predictions:
        correction = method.build(known.recast(cast))

        def now() -> Predictions:
            return predict(data, correction.fit(data.reference))

        return now() if cache is None else cache(correction, now)

    return random_head_control(
        name,
        fitted.by_role,
        with_heads,
        data.scored_images,
        draw,
        before=data.zero_shot,
        after=after,
        vary=vary,
    )


def question_of(data: AuditData, name: str, fitted: Fitted) -> Asked:
    """What a verdict on a correction answers."""
    return Asked(data.question.attribute.name, fitted.locator, name, fitted.heads)


def _verdict(data: AuditData, call: Evaluate, fitted: Fitted, scored: Evaluated, alpha: float) -> Verdict:
    name = str(call.judged)
    judged = Judged(name, bool(fitted.roles), len(fitted.by_role.get("spurious", fitted.heads)), fitted.heads)
    measured = Measured.of(
        data.scored_images,
        data.zero_shot,
        scored.predictions[name],
        seed=data.question.seed,
        n_bootstrap=call.n_bootstrap,
        inferred=data.inferred,
        names=(data.question.task.classes, data.question.attribute.value_names),
        alpha=alpha,
    )
    return judge(judged, measured, scored.controls.get(name))
