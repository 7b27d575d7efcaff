"""The calibrated locator: planted heads are named, others are not, and permuted attributes name none."""

import numpy as np
import pytest
import torch

from headlens.errors import LocateError
from headlens.locate import calibrated, calibrated_from_margins, margins_of
from headlens.metrics import permute_attribute


def world(seed: int, images: int = 401, planted: int = 3, strength: float = 1.2):
    """Two classes, 5 × 7 heads of noise; the first `planted` heads of layer 4 favour the class that goes with s, and
    head 3.6 the true class."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, images)
    values = np.where(generator.random(images) < 0.75, labels, 1 - labels)
    heads = generator.normal(0, 0.12, (images, 5, 7, 2))
    for head in range(planted):
        heads[np.arange(images), 4, head, values] += strength / planted
    heads[np.arange(images), 3, 6, labels] += 1.2
    logits = heads.sum((1, 2))
    return tuple(map(torch.from_numpy, (heads, logits, labels, values)))


def named(seed: int, values: np.ndarray | None = None, **options: float):
    heads, logits, labels, own = world(seed, **options)
    conflicting = (own if values is None else torch.from_numpy(values)) != labels
    return calibrated(heads, logits, labels, conflicting)


@pytest.mark.parametrize("planted", [1, 3, 6])
def test_every_planted_head_is_named_and_no_other(planted: int) -> None:
    for seed in range(5):
        found = named(seed, planted=planted)
        assert set(found.spurious) == {(4, head) for head in range(planted)}
        assert (3, 6) in found.salient
        assert found.scores().selection == found.spurious
        assert set(found.table()["head"][:planted]) == {f"L4H{head}" for head in range(planted)}


def test_nothing_is_named_where_nothing_is_planted_or_the_attribute_is_permuted() -> None:
    runs = 0
    for seed in range(40):
        runs += bool(named(seed, strength=0.0).spurious)
        _, _, labels, values = world(seed)
        permuted = permute_attribute(labels.numpy(), values.numpy(), None, np.random.default_rng(seed))
        runs += bool(named(seed, permuted).spurious)
    assert runs <= 8  # of 80


def test_both_tests_agree_with_their_formulas() -> None:
    heads, logits, labels, values = world(2, images=97)
    conflicting = values != labels
    margins, decisions = margins_of(heads, logits, labels)
    found = calibrated_from_margins(margins, decisions, conflicting)
    wrong, right = conflicting & ~decisions.correct, conflicting & decisions.correct
    torch.testing.assert_close(found.contrast, margins[wrong].mean(0) - margins[right].mean(0))
    rows, best = torch.arange(97), logits.scatter(1, labels[:, None], -torch.inf).argmax(1)
    m = heads[rows, :, :, labels] - heads[rows, :, :, best]
    parts, weights = [], []
    for label in (0, 1):
        aligned, against = m[(labels == label) & ~conflicting], m[(labels == label) & conflicting]
        weights.append(1 / (1 / len(aligned) + 1 / len(against)))
        parts.append(weights[-1] * (aligned.mean(0) - against.mean(0)))
    torch.testing.assert_close(found.alignment, (parts[0] + parts[1]) / sum(weights))


def test_too_few_images_are_refused() -> None:
    heads, logits, labels, _ = world(0)
    conflicting = torch.zeros(len(labels), dtype=torch.bool)
    conflicting[:2] = True
    with pytest.raises(LocateError, match="3 of each"):
        calibrated(heads, logits, labels, conflicting)
    with pytest.raises(LocateError, match="No class has 3"):
        calibrated(heads, logits, labels, torch.ones(len(labels), dtype=torch.bool))
