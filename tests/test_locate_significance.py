"""Intervals and permutation p-values of V_W − V_C."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import fisher_exact

from headlens.errors import LocateError
from headlens.locate import contrastive, contrastive_from_margins, margins_of, significance, stability


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


def test_a_planted_head_is_stable_and_clusters_are_drawn_together():
    *arrays, mask = task(211, 0.5)
    margins, decisions = margins_of(*arrays)
    shares = stability(contrastive_from_margins, margins, decisions, mask, n_bootstrap=40)
    assert shares.shape == (2, 3, 5) and shares[0, 2, 3] == 1.0
    assert shares[0].flatten().sort().values[-2] < 0.5
    again = stability(contrastive_from_margins, margins, decisions, mask, n_bootstrap=40)
    assert torch.equal(shares, again)
    drawn = []

    def spy(margins, decisions, conflicting):
        drawn.append(margins[:, 0, 0])
        return contrastive_from_margins(margins, decisions, conflicting)

    numbered = margins.clone()
    numbered[:, 0, 0] = torch.arange(211).float() - 1000  # never the top head: it shows which images were drawn
    clusters = np.arange(211) // 7
    stability(spy, numbered, replace(decisions, clusters=torch.from_numpy(clusters)), mask, n_bootstrap=3)
    for rows in drawn:
        counts = np.bincount((rows + 1000).long().numpy(), minlength=211)
        assert all(len(set(counts[clusters == one])) == 1 for one in range(31))


def test_a_locator_that_refuses_names_no_head():
    *arrays, mask = task(31, 0.5)
    margins, decisions = margins_of(*arrays)

    def refuses(*_):
        raise LocateError("No.", "Stop.")

    assert not stability(refuses, margins, decisions, mask, n_bootstrap=3).any()
