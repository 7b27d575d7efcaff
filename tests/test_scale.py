"""What an audit computes in little memory equals what it would compute from the scores of all heads and classes."""

import pytest
import torch
from tiny_clip import tiny_clip, write_images

import headlens as hl
from headlens.correct import MeanAblation
from headlens.locate import HeadEffects, margins_of
from headlens.steps.data import margins_along

CLASSES = 11


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> hl.HeadStore:
    folder = tmp_path_factory.mktemp("scale")
    return hl.extract(tiny_clip(), write_images(folder / "images", 13), folder / "acts.zarr")


@pytest.fixture(scope="module")
def classifier(store: hl.HeadStore) -> torch.Tensor:
    return torch.randn(CLASSES, store.embedding.shape[1], generator=torch.Generator().manual_seed(0))


def test_margins_along_two_classes_an_image_are_those_of_all(store: hl.HeadStore, classifier: torch.Tensor) -> None:
    view = store.subset([3, 1, 7, 7, 12, 0])
    logits, labels = view.embedding @ classifier.T, torch.tensor([0, 5, 10, 2, 2, 1])
    margins, decisions = margins_of(view.project(classifier), logits, labels)
    found, same = margins_along(view, classifier, logits, labels)
    torch.testing.assert_close(found, margins, rtol=1e-5, atol=1e-6)
    assert torch.equal(same.predicted, decisions.predicted) and torch.equal(same.other, decisions.other)


def test_a_heads_mean_is_the_mean_of_its_contributions(store: hl.HeadStore) -> None:
    for head in ((0, 0), (1, 2)):
        torch.testing.assert_close(store.head_mean(*head), store.heads(*head).mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_effects_keep_no_more_than_they_may(store: hl.HeadStore, classifier: torch.Tensor, kept: int) -> None:
    logits = store.embedding @ classifier.T
    effects = HeadEffects.of_view(logits, store, store, classifier)
    effects.max_bytes = kept * logits.nbytes
    heads = [(0, 1), (1, 0), (1, 2), (0, 0)]
    for _ in range(2):
        expected = MeanAblation(heads).fit(store).logits(store, classifier)
        torch.testing.assert_close(effects.without(heads), expected, rtol=1e-5, atol=1e-6)
    assert len(effects._made) == kept
    at_once = HeadEffects.of(logits, *[store.project(classifier)] * 2)
    torch.testing.assert_close(effects.block([0, 2, 3]), at_once.block([0, 2, 3]), rtol=1e-5, atol=1e-6)
