"""Intervals and permutation p-values of V_W − V_C."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import fisher_exact

from headlens.errors import LocateError
from headlens.locate import (
    LOCATORS,
    calibrated_from_margins,
    contrastive,
    contrastive_from_margins,
    margins_of,
    resamples,
    significance,
)


def task(images, planted, seed=0):
    """Two classes, three layers of five heads: wrong images go to head 2.3 with the given share, all else at random."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (images,), generator=generator)
    right = torch.arange(images) % 2 == 0
    predicted = torch.where(right, labels, 1 - labels)
    logits = torch.nn.functional.one_hot(predicted, 2).float()
    top = torch.randint(15, (images,), generator=generator)
    top = torch.where(~right & (torch.rand(images, generator=generator) < planted), 13, top)
    head_logits = torch.zeros(images, 15, 2)
    head_logits[torch.arange(images), top, predicted] = 1.0
    return head_logits.view(images, 3, 5, 2), logits, labels, torch.ones(images, dtype=torch.bool)


def test_a_planted_head_is_significant_and_the_others_are_not():
    found = significance(*task(211, 0.5), n_bootstrap=499, n_permutations=499)
    assert found.adjusted[2, 3] < 0.05 and found.low[2, 3] > 0
    others = torch.ones(3, 5, dtype=torch.bool)
    others[2, 3] = False
    assert (found.adjusted[others] > 0.05).all()
    torch.testing.assert_close(found.difference, contrastive(*task(211, 0.5)).difference.double(), atol=1e-6, rtol=0)
    assert found.table()["head"][0] == "L2H3" and "L2H3" in found._repr_html_()


def test_p_agrees_with_the_exact_test():
    inputs = task(101, 0.15, seed=3)
    found = significance(*inputs, n_bootstrap=2, n_permutations=4000)
    scores = inputs[0].sum(-1).flatten(1).argmax(1)
    wrong = inputs[1].argmax(1) != inputs[2]
    # Fisher's two-sided test orders tables by probability, ours by the difference: they agree closely, not exactly.
    table = [[int(((scores == 13) & w).sum()), int(((scores != 13) & w).sum())] for w in (wrong, ~wrong)]
    assert float(found.p[2, 3]) == pytest.approx(fisher_exact(table).pvalue, abs=0.03)


def test_p_values_are_even_under_no_effect():
    p = np.concatenate(
        [significance(*task(83, 0.0, seed), n_bootstrap=2, n_permutations=99).p.flatten().numpy() for seed in range(20)]
    )
    assert (p <= 0.05).mean() < 0.07


def test_interval_covers_the_observed_difference_and_shrinks_with_images():
    few, many = (
        significance(*task(61, 0.3), n_bootstrap=300, n_permutations=1),
        significance(*task(983, 0.3), n_bootstrap=300, n_permutations=1),
    )
    for one in (few, many):
        assert (one.low <= one.difference + 1e-9).all() and (one.difference <= one.high + 1e-9).all()
    assert (many.high - many.low)[2, 3] < (few.high - few.low)[2, 3] / 2


def test_the_seed_decides_and_uncredited_heads_have_p_one():
    inputs = task(53, 0.9)
    one, two, other = (significance(*inputs, n_bootstrap=50, n_permutations=50, seed=s) for s in (1, 1, 2))
    assert torch.equal(one.low, two.low) and torch.equal(one.p, two.p)
    assert not torch.equal(one.p, other.p) or not torch.equal(one.low, other.low)
    credited = torch.zeros(15, dtype=torch.bool)
    credited[inputs[0].sum(-1).flatten(1).argmax(1)] = True
    assert (one.p.flatten()[~credited] == 1).all() and (one.adjusted >= one.p).all()


def test_soft_credit():
    found = significance(*task(71, 0.6), credit="soft", n_bootstrap=60, n_permutations=60)
    expected = contrastive(*task(71, 0.6), credit="soft").difference.double()
    torch.testing.assert_close(found.difference, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("options", "match"), [({"n_permutations": 0}, "0 permutations"), ({"level": 1.0}, "level 1.0")]
)
def test_refused_settings(options, match):
    with pytest.raises(LocateError, match=match):
        significance(*task(31, 0.5), **options)


def test_nothing_to_contrast():
    head_logits, logits, _, mask = task(31, 0.5)
    with pytest.raises(LocateError, match="needs correct and incorrect predictions"):
        significance(head_logits, logits, logits.argmax(1), mask)


def test_few_heads_of_hundreds_are_told_with_few_shuffles():
    """Benjamini and Hochberg's procedure over 384 heads could not: 1 / 200 times 384 / 5 is .38."""
    generator = torch.Generator().manual_seed(5)
    images = 400
    labels = torch.randint(2, (images,), generator=generator)
    right = torch.arange(images) % 2 == 0
    predicted = torch.where(right, labels, 1 - labels)
    logits = torch.nn.functional.one_hot(predicted, 2).float()
    head_logits = torch.randn(images, 24, 16, 2, generator=generator)
    wrong = torch.arange(images)[~right]
    for head in range(5):
        head_logits[wrong, 20, head, predicted[wrong]] += 1.0
    mask = torch.ones(images, dtype=torch.bool)
    found = significance(head_logits, logits, labels, mask, credit="soft", n_bootstrap=2, n_permutations=199)
    assert (found.adjusted[20, :5] <= 0.01).all()
    named = found.adjusted <= 0.05
    named[20, :5] = False
    assert named.sum() <= 1


def test_any_false_head_is_rare():
    least = [
        float(significance(*task(83, 0.0, seed), n_bootstrap=2, n_permutations=99).adjusted.min()) for seed in range(40)
    ]
    assert np.mean(np.array(least) <= 0.05) <= 0.175


def literally(locator, margins, decisions, conflicting, draws):
    """Stability by running the rule on the images of each resample, copied as often as they are drawn."""
    named = torch.zeros(2, *margins.shape[1:], dtype=torch.float64)
    for times in draws.long():
        copies = [(times > one).nonzero()[:, 0] for one in range(int(times.max()))]
        rows, drawn = torch.cat(copies), decisions[torch.cat(copies)]
        if decisions.clusters is not None:  # one that is drawn twice is two
            codes = [decisions.clusters[own] + 1000 * number for number, own in enumerate(copies)]
            drawn = replace(drawn, clusters=torch.cat(codes))
        try:
            found = locator(margins[rows], drawn, conflicting[rows])
        except LocateError:
            continue
        for role, heads in zip(named, (found.spurious, found.salient), strict=True):
            for head in heads:
                role[head] += 1
    return named / len(draws)


RULES = {**LOCATORS, "calibrated": calibrated_from_margins, "generous": partial(calibrated_from_margins, q=0.4)}


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("images", [13, 211])
@pytest.mark.parametrize("name", RULES)
def test_stability_is_that_of_the_rule_on_copied_images(name, images, clustered):
    *arrays, mask = task(images, 0.5)
    mask[::3] = False
    margins, decisions = margins_of(*arrays)
    if clustered:
        decisions = replace(decisions, clusters=torch.arange(images) * 3 // 7)
    draws = resamples(decisions, n_bootstrap=40)
    try:
        found = RULES[name](margins, decisions, mask, draws=draws)
    except LocateError:
        assert images == 13
        return
    plain = RULES[name](margins, decisions, mask)
    assert (found.spurious, found.salient, plain.stability) == (plain.spurious, plain.salient, None)
    expected = literally(RULES[name], margins, decisions, mask, draws)
    torch.testing.assert_close(found.stability, expected, rtol=0, atol=1e-12)
    assert expected.any() and not expected.all()


def test_a_planted_head_is_stable_and_clusters_are_drawn_together():
    *arrays, mask = task(211, 0.5)
    margins, decisions = margins_of(*arrays)
    draws = resamples(decisions, n_bootstrap=40)
    assert torch.equal(draws, resamples(decisions, n_bootstrap=40)) and (draws.sum(1) == 211).all()
    shares = contrastive_from_margins(margins, decisions, mask, draws=draws).stability
    assert shares.shape == (2, 3, 5) and shares[0, 2, 3] == 1.0
    assert shares[0].flatten().sort().values[-2] < 0.5
    clusters = torch.arange(211) // 7
    for times in resamples(replace(decisions, clusters=clusters), n_bootstrap=3):
        assert all(len(set(times[clusters == one].tolist())) == 1 for one in range(31))


def test_a_resample_in_which_the_rule_refuses_names_no_head():
    *arrays, mask = task(31, 0.5)
    margins, decisions = margins_of(*arrays)
    mask[::3] = False
    draws = torch.stack([decisions.correct, ~decisions.correct]).double()  # nothing to contrast in either
    for rule in RULES.values():
        assert not rule(margins, decisions, mask, draws=draws).stability.any()
