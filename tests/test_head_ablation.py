"""What ablating any set of heads does to the class scores: equal to the correction itself, on a real tower's store."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_clip import EMBED, HEADS, LAYERS, tiny_clip, write_images

from headlens.correct import MeanAblation
from headlens.errors import LocateError
from headlens.extraction import extract
from headlens.heads import HeadId
from headlens.locate import HeadEffects

CLASSES = 11


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("effects")
    store = extract(tiny_clip(), write_images(folder / "images", 13), folder / "acts.zarr", batch_size=4, workers=1)
    classifier = torch.randn(CLASSES, EMBED, generator=torch.Generator().manual_seed(0))
    return store.subset(range(5)), store.subset(range(5, 13)), classifier


@pytest.fixture(scope="module")
def effects(splits):
    reference, scored, classifier = splits
    return HeadEffects.of(scored.embedding @ classifier.T, scored.project(classifier), reference.project(classifier))


@settings(max_examples=25, deadline=None)
@given(heads=st.sets(st.tuples(st.integers(0, LAYERS - 1), st.integers(0, HEADS - 1)), max_size=6))
def test_equal_to_mean_ablation(splits, effects, heads):
    reference, scored, classifier = splits
    corrected = MeanAblation(sorted(heads)).fit(reference).apply(scored)
    torch.testing.assert_close(effects.without(heads), corrected.embedding @ classifier.T, atol=2e-5, rtol=0)
    assert torch.equal(effects.predictions(heads), effects.without(heads).argmax(-1))


def test_head_by_head_is_the_same(splits, effects):
    reference, scored, classifier = splits
    own = HeadEffects.of_view(effects.logits, scored, reference, classifier)
    heads = [(0, 1), (2, 3), (2, 0)]
    assert own.shape == effects.shape
    torch.testing.assert_close(own.without(heads), effects.without(heads), atol=2e-5, rtol=0)
    torch.testing.assert_close(own.block([1, 2, 7]), effects.block([1, 2, 7]), atol=2e-5, rtol=0)
    assert own.centred((0, 1)) is own.centred("L0H1")


def test_nothing_ablated_is_nothing_changed(effects):
    assert torch.equal(effects.without(()), effects.logits)
    assert torch.equal(effects.predictions(), effects.logits.argmax(-1))


def test_ablation_on_its_own_reference_keeps_the_mean_score(splits):
    reference, _, classifier = splits
    own = HeadEffects.of(
        reference.embedding @ classifier.T, reference.project(classifier), reference.project(classifier)
    )
    changed = own.without([(0, 1), (2, 3)])
    assert not torch.allclose(changed, own.logits, atol=1e-3)
    torch.testing.assert_close(changed.mean(0), own.logits.mean(0), atol=1e-6, rtol=0)


def test_heads_by_name(effects):
    assert effects.shape == (LAYERS, HEADS)
    assert effects.heads() == [HeadId(i, j) for i in range(LAYERS) for j in range(HEADS)]


def test_type_is_kept_and_nothing_is_differentiated(splits):
    reference, scored, classifier = splits
    wanted = classifier.double().requires_grad_()
    own = HeadEffects.of(
        scored.embedding.double() @ wanted.T,
        scored.project(classifier).double() + 0 * wanted.sum(),
        reference.project(classifier).double(),
    )
    assert own.centred((1, 1)).dtype == own.without([(1, 1)]).dtype == torch.float64
    assert not own.centred((1, 1)).requires_grad and not own.logits.requires_grad


@pytest.mark.parametrize(
    ("heads", "match"),
    [([(LAYERS, 0)], "head L3H0"), ([(0, -1)], "head L0H-1"), ([(1, 2), (1, 2)], "Head L1H2 is named twice")],
)
def test_heads_that_are_refused(effects, heads, match):
    with pytest.raises(LocateError, match=match):
        effects.without(heads)


@pytest.mark.usefixtures("without_shape_checks")
def test_shapes_that_disagree(splits):
    reference, scored, classifier = splits
    logits, heads, means = scored.embedding @ classifier.T, scored.project(classifier), reference.project(classifier)
    for wrong in (
        (logits[:-1], heads, means),
        (logits[:, :-1], heads, means),
        (logits, heads[:, :-1], means),
        (logits, heads, means[..., :-1]),
        (logits, heads, means[:0]),
    ):
        with pytest.raises(LocateError, match="do not belong to") as caught:
            HeadEffects.of(*wrong)
        assert caught.value.remedy
