"""Concept vectors and attribute prompts in TextSpan: numbers worked out by hand, planted heads, and bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from headlens.errors import LocateError, TaskError, UnknownNameError
from headlens.explain import ExplainError, textspan
from headlens.heads import HeadId
from headlens.locate import (
    ConceptRule,
    ConceptScores,
    concept_candidates,
    concept_directions,
    concept_scores,
    concept_spans,
    contrast_spans,
    head_variance,
)
from headlens.states import HeadBasis, Moments

LAYERS, HEADS, D_HEAD, EMBED = 2, 3, 5, 11
CARRIER = (1, 2)


def planted(seed: int = 0, images: int = 101) -> tuple[torch.Tensor, HeadBasis, torch.Tensor, torch.Tensor]:
    """z, basis, groups and two prototypes; one head writes the attribute along the prototypes' difference."""
    g = torch.Generator().manual_seed(seed)
    groups = torch.arange(images) % 2
    z = torch.randn(images, LAYERS, HEADS, D_HEAD, generator=g).double()
    weights = torch.randn(LAYERS, HEADS, D_HEAD, EMBED, generator=g).double()
    prototypes = torch.randn(2, EMBED, generator=g).double()
    weights[CARRIER][0] = 3 * concept_directions(prototypes)[0]
    z[:, CARRIER[0], CARRIER[1], 0] += 2 * groups
    basis = HeadBasis.of_weights(weights)
    return z, basis, groups, prototypes


def project(z: torch.Tensor, basis: HeadBasis, directions: torch.Tensor) -> torch.Tensor:
    return torch.einsum("ilhd,lhde,ke->ilhk", z, basis.B, directions)


def scored(rule: ConceptRule | None = None, **keywords: int) -> ConceptScores:
    z, basis, groups, prototypes = planted(**keywords)
    u = concept_directions(prototypes)
    return concept_scores(project(z, basis, u), groups, head_variance(Moments.of(z), basis), u, rule)


def test_vectors_by_hand() -> None:
    prototypes = torch.tensor([[1.0, 0, 0], [1, 3, 4]])
    torch.testing.assert_close(concept_directions(prototypes), torch.tensor([[0, 0.6, 0.8]]))
    # A class along the second axis leaves the third of the difference.
    classes = torch.tensor([[0.0, 5, 0], [0, 7, 0]])
    torch.testing.assert_close(concept_directions(prototypes, classes), torch.tensor([[0, 0, 1.0]]))
    three = torch.tensor([[3.0, 0, 0], [0, 3, 0], [0, 0, 3]])
    expected = torch.tensor([[2.0, -1, -1], [-1, 2, -1], [-1, -1, 2]]) / 6**0.5
    torch.testing.assert_close(concept_directions(three), expected)


def test_scores_by_hand() -> None:
    # One head; group 0 projects to 0, 2 and group 1 to 1, 5: means 1 and 3, sums of squares 2 and 8, pooled sd √5.
    projections = torch.tensor([0.0, 1, 2, 5]).view(4, 1, 1, 1)
    groups = torch.tensor([0, 1, 0, 1])
    u = torch.eye(7)[:1]
    rule = ConceptRule(minimum_difference=0.5)
    scores = concept_scores(projections, groups, torch.tensor([[14.0]]), u, rule)
    # Of two degrees of freedom: Hedges' J(2) = 1 / √π.
    assert float(scores.difference) == pytest.approx(2 / 5**0.5 / np.pi**0.5)
    assert float(scores.share) == pytest.approx(3.5 / 14)  # the four numbers vary by 3.5
    assert float(scores.auroc) == pytest.approx(3 / 4)
    assert scores.sizes == (2, 2)
    assert float(scores.gap) == pytest.approx(2)
    assert scores.rule == rule
    assert scores.flagged == ((0, 0),)
    seventh = ConceptRule(minimum_share=1 / 7, minimum_difference=0.5)
    assert concept_scores(projections, groups, torch.tensor([[14.0]]), u, seventh).flagged == ((0, 0),)
    wider = concept_scores(projections, groups, torch.tensor([[28.0]]), u, seventh)
    assert wider.flagged == ()  # for the share alone: an eighth is less than a seventh
    # An image without a label counts for the variance and for nothing else.
    more = concept_scores(
        torch.cat([projections, projections[:1] + 90]), torch.tensor([0, 1, 0, 1, -1]), torch.ones(1, 1), u
    )
    assert float(more.difference) == pytest.approx(2 / 5**0.5 / np.pi**0.5)
    assert float(more.share) > 1000


def test_the_planted_head_is_flagged_and_no_other() -> None:
    scores = scored()
    assert scores.flagged == (CARRIER,)
    assert scores.scores("share").selection == (CARRIER,)
    assert scores.table()["head"][0] == "L1H2"
    assert scores.table()["flagged"].tolist() == [True] + [False] * 5
    assert "<table" in scores._repr_html_()
    with pytest.raises(UnknownNameError, match="share, difference, gap, part, auroc"):
        scores.scores("rank")


@pytest.mark.parametrize(
    "rule",
    [
        ConceptRule(minimum_share=1.1),
        ConceptRule(minimum_difference=9),
        ConceptRule(minimum_auroc=0.999),
        ConceptRule(minimum_part=1),
    ],
)
def test_each_threshold_can_refuse(rule: ConceptRule) -> None:
    scores = scored(rule)
    assert scores.flagged == ()
    assert scores.rule.minimum_difference == rule.minimum_difference


def test_a_head_that_separates_cleanly_and_moves_nothing_is_not_flagged() -> None:
    z, basis, groups, prototypes = planted()
    u = concept_directions(prototypes)
    loud = z.clone()
    # Another head repeats the carrier a thousand times more quietly: the same difference and AUROC, hardly a gap.
    quiet = project(loud, basis, u)
    quiet[:, 0, 0] = quiet[:, CARRIER[0], CARRIER[1]] / 1000
    variance = head_variance(Moments.of(loud), basis)
    variance[0, 0] = variance[CARRIER] / 1e6
    scores = concept_scores(quiet, groups, variance, u)
    torch.testing.assert_close(scores.difference[0, 0], scores.difference[CARRIER])
    assert scores.flagged == (CARRIER,)
    assert float(scores.part.abs().sum()) == pytest.approx(1)
    assert (0, 0) in concept_scores(quiet, groups, variance, u, ConceptRule(minimum_part=0)).flagged


def test_a_head_that_tells_classes_apart_is_no_carrier_of_what_goes_with_them() -> None:
    g = torch.Generator().manual_seed(2)
    classes = torch.arange(4000) % 2
    groups = torch.where(torch.rand(4000, generator=g) < 0.85, classes, 1 - classes)
    projections = torch.randn(4000, 1, 2, 1, generator=g)
    projections[:, 0, 0, 0] += 6.0 * classes  # of the class, whatever the group
    projections[:, 0, 1, 0] += 2.0 * groups  # of the group, whatever the class
    u, variance, rule = torch.eye(7)[:1], torch.ones(1, 2), ConceptRule(minimum_part=0.1)
    assert concept_scores(projections, groups, variance, u, rule).flagged == ((0, 0), (0, 1))
    within = concept_scores(projections, groups, variance, u, rule, classes)
    assert within.flagged == ((0, 1),)
    assert abs(float(within.difference[0, 0])) < 0.3
    # Class by class the groups differ by two, whatever the shares of the groups in each class.
    assert float(within.gap[0, 1]) == pytest.approx(2.0, abs=0.3)
    # Where the classes say nothing, nothing changes; and where they say all, there is nothing to compare.
    same = concept_scores(projections, groups, variance, u, classes=torch.zeros(4000, dtype=torch.long))
    assert torch.equal(same.difference, concept_scores(projections, groups, variance, u).difference)
    with pytest.raises(LocateError, match="both groups"):
        concept_scores(projections, groups, variance, u, classes=groups)


def test_the_sign_follows_the_order_of_the_values_and_does_not_decide() -> None:
    z, basis, groups, prototypes = planted()
    u, variance = concept_directions(prototypes), head_variance(Moments.of(z), basis)
    one = concept_scores(project(z, basis, u), groups, variance, u)
    other = concept_scores(project(z, basis, u), 1 - groups, variance, u)
    torch.testing.assert_close(one.difference, -other.difference)
    torch.testing.assert_close(one.auroc, 1 - other.auroc)
    assert one.flagged == other.flagged == (CARRIER,)


def test_more_values_take_the_one_that_a_head_separates_best() -> None:
    g = torch.Generator().manual_seed(5)
    groups = torch.arange(90) % 3
    projections = torch.randn(90, 1, 2, 3, generator=g)
    projections[:, 0, 1, 2] += 3.0 * (groups == 2)
    scores = concept_scores(projections, groups, torch.ones(1, 2), torch.eye(3))
    assert scores.value[0, 1] == 2
    assert float(scores.difference[0, 1]) > 2
    assert scores.flagged == ((0, 1),)
    assert scores.sizes == (30, 30, 30)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), digits=st.integers(0, 3))
def test_areas_are_scikit_learn_s_and_variances_the_rows(seed: int, digits: int) -> None:
    z, basis, groups, prototypes = planted(seed, images=37)
    u = concept_directions(prototypes)
    projections = project(z, basis, u).round(decimals=digits)  # so that there are ties
    variance = head_variance(Moments.of(z), basis)
    scores = concept_scores(projections, groups, variance, u)
    for layer in range(LAYERS):
        for head in range(HEADS):
            along = projections[:, layer, head, 0]
            rows = z[:, layer, head] @ basis.B[layer, head]
            assert float(scores.auroc[layer, head]) == pytest.approx(roc_auc_score(groups, along))
            assert float(variance[layer, head]) == pytest.approx(float(rows.var(0, correction=0).sum()))
            assert float(scores.share[layer, head] * variance[layer, head]) == pytest.approx(
                float(along.var(correction=0))
            )


def test_a_head_without_variance_carries_nothing() -> None:
    u = torch.eye(5)[:1]
    scores = concept_scores(torch.ones(6, 1, 1, 1), torch.arange(6) % 2, torch.zeros(1, 1), u)
    assert (float(scores.share), float(scores.difference), float(scores.auroc)) == (0.0, 0.0, 0.5)
    apart = concept_scores((torch.arange(6.0) % 2).view(6, 1, 1, 1), torch.arange(6) % 2, torch.ones(1, 1), u)
    assert float(apart.difference) == np.inf


def test_prompts_compete_with_the_bank() -> None:
    z, basis, _, prototypes = planted()
    bank = torch.randn(13, EMBED, generator=torch.Generator().manual_seed(2)).double()
    u = concept_directions(prototypes)
    prompts = torch.cat([0.01 * u, 4 * u])
    spans = concept_spans(Moments.of(z), basis, bank, prompts, first=2, maximum_p=1)
    assert spans.flagged[0] == CARRIER
    assert (int(spans.place[CARRIER]), int(spans.prompt[CARRIER])) == (1, 1)  # the longer of the two
    for layer in range(LAYERS):
        for head in range(HEADS):
            rows = textspan(z[:, layer, head] @ basis.B[layer, head], torch.cat([bank, prompts]), 2)
            ours = rows.texts >= len(bank)
            assert float(spans.share[layer, head]) == pytest.approx(float(rows.share[ours].sum()))
            assert int(spans.place[layer, head]) == (int(ours.nonzero()[0, 0]) + 1 if ours.any() else 0)
    assert (
        set(spans.flagged)
        == {(i, j) for (i, j) in np.argwhere(spans.place.numpy() > 0).tolist()}
        == {HeadId.of(name) for name in spans.table()["head"]}
    )
    strict = concept_spans(
        Moments.of(z), basis, bank, prompts, first=2, minimum_share=float(spans.share[CARRIER]), maximum_p=1
    )
    assert strict.flagged == (CARRIER,)
    assert strict.scores().threshold == float(spans.share[CARRIER])
    assert "<table" in strict._repr_html_()
    scores = scored()
    assert concept_candidates(scores, spans) == (CARRIER,)
    none = concept_spans(Moments.of(z), basis, 100 * bank, prompts * 0.01, first=2)
    assert none.flagged == ()
    assert none.prompt.unique().tolist() == [-1]
    assert concept_candidates(scores, none) == ()


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("prototypes", "classes", "message"),
    [
        (torch.ones(1, 7), None, r"shape \[1, 7\] are not two rows"),
        (torch.ones(2, 7), None, "values 0 and 1 coincide"),
        (torch.eye(3, 7)[[0, 1, 1]], None, "values 1 and 2 coincide"),
        (torch.full((2, 7), torch.nan), None, "NaN"),
        (torch.eye(2, 7), torch.ones(3, 5), r"\[3, 5\] are not 7 wide"),
        (torch.eye(2, 7), torch.eye(7), "left of concept vector 0"),
    ],
)
def test_values_without_a_vector(prototypes: torch.Tensor, classes: torch.Tensor | None, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        concept_directions(prototypes, classes)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": torch.zeros(6, dtype=torch.long)}, "Value 1 has 0 of the two"),
        ({"groups": torch.tensor([0, 0, 0, 0, 0, 1])}, "Value 1 has 1 of the two"),
        ({"groups": torch.tensor([0, 1, 2, 0, 1, 2])}, "from 0 to 2, not from 0 to 1"),
        ({"groups": torch.arange(5) % 2}, r"\[6, 2, 3, 1\] are not \[5, 2, 3, 1\]"),
        ({"projections": torch.full((6, 2, 3, 1), torch.nan)}, "projections are NaN or infinite"),
        ({"variance": torch.full((2, 3), torch.inf)}, "variances are NaN or infinite"),
    ],
)
def test_images_that_cannot_be_scored(change: dict, message: str) -> None:
    given = {
        "projections": torch.ones(6, 2, 3, 1),
        "groups": torch.arange(6) % 2,
        "variance": torch.ones(2, 3),
    } | change
    with pytest.raises(LocateError, match=message):
        concept_scores(given["projections"], given["groups"], given["variance"], torch.eye(7)[:1])


@pytest.mark.usefixtures("without_shape_checks")
def test_prompts_that_cannot_compete() -> None:
    z, basis, _, prototypes = planted()
    moments, bank = Moments.of(z), torch.randn(13, EMBED)
    with pytest.raises(TaskError, match=r"\[2, 7\] and bank \[13, 11\]"):
        concept_spans(moments, basis, bank, prototypes[:, :7])
    with pytest.raises(ExplainError, match="16 texts cannot be chosen from a bank of 15"):
        concept_spans(moments, basis, bank, prototypes, first=16)
    spans = concept_spans(Moments.of(z[:, :1]), HeadBasis.of_weights(basis.B[:1]), bank, prototypes)
    with pytest.raises(LocateError, match=r"\[2, 3\] and \[1, 3\]"):
        concept_candidates(scored(), spans)


@pytest.mark.parametrize("images", [1, 2, 5])
def test_the_difference_is_not_enlarged_by_small_groups(images: int) -> None:
    """True differences of .60 in 20 classes with so many images a class and group; without a correction .86 at one."""
    g = torch.Generator().manual_seed(3)
    classes = torch.arange(20).repeat_interleave(2 * images)
    groups = torch.arange(len(classes)) % 2
    projections = torch.randn(len(classes), 40, 50, 1, generator=g).double()
    projections += 3.0 * torch.randn(20, 40, 50, 1, generator=g).double()[classes]  # of the class
    projections[..., 0] += 0.6 * groups[:, None, None]
    scores = concept_scores(projections, groups, torch.ones(40, 50).double() * 20, torch.eye(7)[:1], classes=classes)
    assert float(scores.difference.mean()) == pytest.approx(0.6, abs=0.02)


def test_one_pair_of_images_says_nothing_of_the_spread() -> None:
    projections, groups = torch.tensor([0.0, 1, 5, 7]).view(4, 1, 1, 1), torch.tensor([0, 1, 0, 1])
    scores = concept_scores(projections, groups, torch.ones(1, 1), torch.eye(7)[:1], classes=torch.tensor([0, 0, 1, 1]))
    assert float(scores.difference) == 0.0 and scores.flagged == ()


def test_random_directions_are_rarely_flagged_and_a_carrier_is() -> None:
    z, basis, _, prototypes = planted(images=400)
    bank = torch.randn(57, EMBED, generator=torch.Generator().manual_seed(2)).double()
    moments, found = Moments.of(z), 0
    u = concept_directions(prototypes)
    carrier = contrast_spans(moments, basis, bank, u, first=5)
    assert CARRIER in carrier.flagged and carrier.p[CARRIER] <= 0.05
    for seed in range(20):
        random = torch.nn.functional.normalize(torch.randn(1, EMBED, generator=torch.Generator().manual_seed(seed)))
        free = contrast_spans(moments, basis, bank, random.double(), first=5, maximum_p=1)
        tested = contrast_spans(moments, basis, bank, random.double(), first=5)
        assert set(tested.flagged) == {h for h in free.flagged if tested.p[h] <= 0.05}
        found += len(tested.flagged)
    assert found <= 14  # of 120, 6 by chance
