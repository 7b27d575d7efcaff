"""Every registered method: fitted once, saved, loaded, applied to one image or to many, and to random heads."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headlens.correct import load_correction
from headlens.errors import CorrectionError
from headlens.heads import HeadId
from headlens.serialization import digest
from headlens.steps import LOCATORS, METHODS, Ingredients

LAYERS, HEADS, EMBED, CLASSES, VALUES, REFERENCE, TEST = 3, 5, 13, 2, 3, 43, 29
NEW_CLASSIFIER = {"ortho-cali"} | {name for name in METHODS if "probe" in name or "retraining" in name}
TRANSDUCTIVE = {"ablation (self)", "ltc (self)", "ltc full (self)", "resample ablation"} | {
    "ablation (published)", "ltc (published)", "ltc full (published)"
}  # fmt: skip


def normal(seed, *shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


class View:
    n_layers, n_heads, fingerprint = LAYERS, HEADS, "model-a"

    def __init__(self, contributions, labels, values):
        # The first class and the first values show, so that there is something to learn.
        contributions = contributions.clone()
        contributions[:, 1, 1, 0] += 17.0 * labels
        contributions[:, 0, 1, 1] += 5.0 * values
        self.contributions = contributions / 7
        self.embedding = self.contributions.sum((1, 2)) + 0.02

    def heads(self, layer, head):
        return self.contributions[:, layer, head]

    def with_constants(self, constants):
        assert constants == "spread"
        return self  # these contributions have no constants

    def take(self, rows):
        part = object.__new__(View)
        part.contributions, part.embedding = self.contributions[rows], self.embedding[rows]
        return part


def codes(seed, images):
    """Labels and values of which every group has at least three images."""
    order = torch.arange(images)
    shuffled = order[torch.randperm(images, generator=torch.Generator().manual_seed(seed))]
    return shuffled % CLASSES, shuffled // CLASSES % VALUES


def view(seed, images):
    return View(normal(seed, images, LAYERS, HEADS, EMBED), *codes(seed, images))


def ingredients(seed, **changed):
    labels, values = codes(seed, REFERENCE)
    classifier = torch.nn.functional.normalize(normal(seed + 1, CLASSES, EMBED), dim=1)
    known = {
        "spurious": (HeadId(0, 1), HeadId(1, 3)),
        "salient": (HeadId(2, 4),),
        "pairs": normal(seed + 2, 2, 2, EMBED),
        "spurious_pairs": normal(seed + 3, 1, 2, EMBED),
        "classifier": classifier,
        "cross_pairs": normal(seed + 3, 1, 2, EMBED),
        "spurious_prompts": normal(seed + 4, 5, EMBED),
        "reference_labels": labels,
        "reference_values": values,
        "seed": 3,
    }
    return Ingredients(**known | changed)


@pytest.fixture(scope="module")
def fitted():
    reference = view(0, REFERENCE)
    return {name: METHODS[name].build(ingredients(0)).fit(reference) for name in METHODS}


def test_the_table_of_the_publication_is_there():
    assert set(METHODS) >= {
        "ablation", "zero ablation", "resample ablation", "prototype ablation", "ablation textspan", "ltc",
        "ltc without ablation", "ltc full", "ltc soft", "ltc inferred", "roboshot", "roboshot reject",
        "roboshot accept", "ortho-cali", "leace", "leace heads", "erm probe", "erm probe + ltc", "jtt probe",
        "jtt probe + ltc", "last-layer retraining", "last-layer retraining + ltc",
    }  # fmt: skip
    assert (METHODS["ltc full"].locator, METHODS["ltc soft"].locator) == ("contrastive-full", "contrastive-soft")
    assert METHODS["ltc inferred"].locator == "contrastive-inferred"
    assert {METHODS[name].locator for name in METHODS} <= {None, *LOCATORS}


@pytest.mark.parametrize("name", METHODS)
def test_saved_and_loaded_it_gives_the_same_bit_for_bit(name, fitted, tmp_path):
    one, known, test = fitted[name], ingredients(0), view(5, TEST)
    assert one.fitted
    again = load_correction(one.save(tmp_path / "kept"))
    logits = one.logits(test, known.classifier)
    assert logits.shape == (TEST, CLASSES) and logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    assert torch.equal(again.logits(test, known.classifier), logits)
    assert repr(again) == repr(one) and again.changes_classifier == one.changes_classifier
    assert digest(again) == digest(one) != digest(METHODS[name].build(known))
    # An unfitted one is kept as well, and fits to the same.
    fresh = load_correction(METHODS[name].build(known).save(tmp_path / "fresh"))
    assert digest(fresh) == digest(METHODS[name].build(known))
    assert torch.equal(fresh.fit(view(0, REFERENCE)).logits(test, known.classifier), logits)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**20), image=st.integers(0, TEST - 1), size=st.integers(1, TEST))
@pytest.mark.parametrize("name", METHODS)
def test_one_image_alone_gets_what_it_gets_among_many(name, fitted, seed, image, size):
    one, known, test = fitted[name], ingredients(0), view(seed, TEST)
    assert one.transductive == (name in TRANSDUCTIVE)
    among = one.logits(test, known.classifier)
    if one.transductive:
        return
    alone = one.logits(test.take(slice(image, image + 1)), known.classifier)
    torch.testing.assert_close(alone[0], among[image], atol=2e-6, rtol=2e-5)
    parts = [one.logits(test.take(slice(i, i + size)), known.classifier) for i in range(0, TEST, size)]
    torch.testing.assert_close(torch.cat(parts), among, atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize("name", METHODS)
def test_logits_are_the_corrected_embedding_along_the_classifier_or_the_classifier_changes(name, fitted):
    one, known, test = fitted[name], ingredients(0), view(5, TEST)
    plain = one.apply(test).embedding @ known.classifier.T
    assert one.changes_classifier == (name in NEW_CLASSIFIER)
    assert torch.allclose(one.logits(test, known.classifier), plain, atol=2e-6) != one.changes_classifier
    assert torch.equal(one.apply(test).embedding, test.embedding) == (one.changes_classifier and "+" not in name)


@pytest.mark.parametrize("name", METHODS)
def test_heads_of_its_roles_matter_and_no_others(name):
    known, reference, test = ingredients(0), view(0, REFERENCE), view(5, TEST)
    before = METHODS[name].build(known).fit(reference).logits(test, known.classifier)
    for role in ("spurious", "salient"):
        other = known.recast({role: [HeadId(1, 0)]})
        after = METHODS[name].build(other).fit(reference).logits(test, known.classifier)
        assert torch.equal(after, before) == (role not in METHODS[name].roles)


@pytest.mark.parametrize("name", METHODS)
def test_it_stays_with_its_model(name, fitted):
    other = view(5, TEST)
    other.fingerprint = "model-b"
    with pytest.raises(CorrectionError, match=r"model-a.*model-b"):
        fitted[name].logits(other, ingredients(0).classifier)


@pytest.mark.parametrize("name", sorted(NEW_CLASSIFIER - {"ortho-cali"}))
def test_probes_learn_the_classes(name, fitted):
    test = view(5, 211)
    labels, _ = codes(5, 211)
    predicted = fitted[name].logits(test, ingredients(0).classifier).argmax(1)
    assert (predicted == labels).float().mean() > 0.8


def test_the_prototype_is_made_of_as_many_images_of_every_group():
    known, reference = ingredients(0), view(0, REFERENCE)
    one = METHODS["prototype ablation"].build(known)
    groups = (known.reference_labels * VALUES + known.reference_values)[one.members]
    assert np.unique(groups.numpy(), return_counts=True)[1].tolist() == [7] * (CLASSES * VALUES)
    expected = reference.heads(1, 3)[one.members].mean(0)
    torch.testing.assert_close(one.fit(reference).apply(reference).heads(1, 3)[11], expected)


def test_ortho_cali_is_calibrated_by_the_crossed_pairs():
    known, test = ingredients(0), view(5, TEST)
    one = METHODS["ortho-cali"].build(known).logits(test, known.classifier)
    other = ingredients(0, cross_pairs=normal(77, 2, 2, EMBED))
    assert not torch.allclose(METHODS["ortho-cali"].build(other).logits(test, known.classifier), one)


def test_a_fit_leaves_what_it_was_called_on_unfitted():
    for name in ("leace", "leace heads", "erm probe", "last-layer retraining + ltc", "prototype ablation"):
        one = METHODS[name].build(ingredients(0))
        assert one.fit(view(0, REFERENCE)).fitted and not one.fitted
        with pytest.raises(CorrectionError, match="fit"):
            one.logits(view(5, TEST), ingredients(0).classifier)
