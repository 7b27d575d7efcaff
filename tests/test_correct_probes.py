"""Probes: what they are trained on, that balanced ones withstand a spurious attribute, and every refusal."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from headlens.correct import ErmProbe, JustTrainTwice, LastLayerRetraining, balanced_rows, load_correction
from headlens.correct.probes import halves_by_group, lasso_classifier, ridge_classifier, worst_group_accuracy
from headlens.errors import CorrectionError

EMBED = 23


def biased(seed=0, images=503, share=0.95, n_classes=2):
    """Embeddings in which the attribute shows more than the class, and mostly goes with it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_classes, size=images)
    values = np.where(rng.random(images) < share, labels, rng.integers(n_classes, size=images))
    directions = np.eye(EMBED)[: 2 * n_classes]
    x = rng.normal(size=(images, EMBED)) * 0.5 + directions[labels] * 1.1 + 2.0 * directions[n_classes + values]
    return (
        torch.from_numpy(x / np.linalg.norm(x, axis=1, keepdims=True)),
        torch.from_numpy(labels),
        torch.from_numpy(values),
    )


def worst(one, seed=1, n_classes=2):
    """The worst group's accuracy where class and attribute are independent."""
    x, labels, values = biased(seed, share=0.0, n_classes=n_classes)
    predicted = one.logits(x, torch.eye(n_classes, EMBED)).argmax(1).numpy()
    return worst_group_accuracy(predicted, labels.numpy(), (labels * n_classes + values).numpy())


@pytest.mark.parametrize("n_classes", [2, 3])
def test_those_who_know_of_groups_withstand_the_attribute(n_classes):
    x, labels, values = biased(n_classes=n_classes)
    plain = worst(ErmProbe(labels, n_classes).fit(x), n_classes=n_classes)
    twice = worst(JustTrainTwice(labels, n_classes, values).fit(x), n_classes=n_classes)
    balanced = worst(LastLayerRetraining(labels, n_classes, values).fit(x), n_classes=n_classes)
    assert twice > plain + 0.15 and balanced > plain + 0.15


def test_erm_is_scikit_learns_logistic_regression():
    for n_classes in (2, 3):
        x, labels, _ = biased(n_classes=n_classes)
        model = LogisticRegression(C=0.316, max_iter=1000).fit(x.numpy(), labels.numpy())
        one = ErmProbe(labels, n_classes).fit(x)
        logits = one.logits(x, torch.eye(n_classes, EMBED))
        np.testing.assert_allclose(torch.softmax(logits, 1).numpy(), model.predict_proba(x.numpy()), atol=1e-6)


def test_an_upweight_counts_an_image_that_many_times():
    x, labels, _ = (a.numpy() for a in biased(images=67))
    weights = np.where(np.arange(67) % 5 == 0, 3.0, 1.0)
    repeated = np.repeat(np.arange(67), weights.astype(int))
    one, other = ridge_classifier(x, labels, 2, 0.7, weights), ridge_classifier(x[repeated], labels[repeated], 2, 0.7)
    np.testing.assert_allclose(one.weight, other.weight, atol=1e-3)


def test_a_first_model_without_mistakes_changes_nothing():
    x = torch.cat([torch.eye(EMBED)[:1].repeat(11, 1), torch.eye(EMBED)[1:2].repeat(13, 1)]).double()
    labels = torch.tensor([0] * 11 + [1] * 13)
    twice = JustTrainTwice(labels, 2, labels, first=[1.0], upweights=[100.0]).fit(x)
    plain = ErmProbe(labels, 2).fit(x)
    assert torch.equal(twice.logits(x, torch.eye(2, EMBED)), plain.logits(x, torch.eye(2, EMBED)))


def test_retraining_does_not_mind_the_scale_of_a_feature_nor_a_constant_one():
    x, labels, values = biased()
    scaled = x * torch.logspace(-2, 2, EMBED, dtype=torch.float64) + 3.0
    scaled[:, 0], x[:, 0] = 7.0, 0.0
    one, other = (LastLayerRetraining(labels, 2, values, draws=3).fit(a) for a in (x, scaled))
    eye = torch.eye(2, EMBED)
    torch.testing.assert_close(one.logits(x, eye), other.logits(scaled, eye), atol=1e-6, rtol=1e-6)


def test_the_mean_of_draws_is_a_mean():
    x, labels, values = biased(images=211)
    groups = (labels * 2 + values).numpy()
    one = LastLayerRetraining(labels, 2, values, strengths=[0.3], draws=3, seed=5).fit(x)
    scaled = ((x - x.mean(0)) / x.std(0, unbiased=False)).numpy()
    scores = []
    for draw in range(3):
        rows = balanced_rows(groups, np.random.default_rng([5, draw]))
        model = lasso_classifier(scaled[rows], labels.numpy()[rows], 2, 0.3, draw)
        scores.append(scaled @ model.weight.T + model.bias)
    np.testing.assert_allclose(one.logits(x, torch.eye(2, EMBED)).numpy(), np.mean(scores, axis=0), atol=1e-9)


def test_the_chosen_settings_are_said_and_kept(tmp_path):
    x, labels, values = biased()
    twice = JustTrainTwice(labels, 2, values, seed=3).fit(x)
    assert twice.chosen["first"] in twice.first and twice.chosen["upweight"] in twice.upweights
    last = LastLayerRetraining(labels, 2, values, draws=2).fit(x)
    assert last.chosen["strength"] in last.strengths
    assert f"strength {last.chosen['strength']:g}" in repr(last)
    for number, one in enumerate((twice, last)):
        again = load_correction(one.save(tmp_path / str(number)))
        assert again.chosen == one.chosen and repr(again) == repr(one)


def test_the_seed_decides_the_draws():
    x, labels, values = biased(images=101)
    one, same, other = (LastLayerRetraining(labels, 2, values, draws=2, seed=s).fit(x) for s in (0, 0, 1))
    eye = torch.eye(2, EMBED)
    assert torch.equal(one.logits(x, eye), same.logits(x, eye))
    assert not torch.equal(one.logits(x, eye), other.logits(x, eye))


@settings(max_examples=20, deadline=None)
@given(groups=st.lists(st.integers(0, 4), min_size=1, max_size=37), seed=st.integers(0, 99))
def test_balanced_rows_and_halves(groups, seed):
    groups = np.asarray(groups)
    rows = balanced_rows(groups, np.random.default_rng(seed))
    sizes = np.unique(groups, return_counts=True)[1]
    assert np.unique(groups[rows], return_counts=True)[1].tolist() == [sizes.min()] * len(sizes)
    assert len(set(rows.tolist())) == len(rows)
    first, second = halves_by_group(groups, np.random.default_rng(seed))
    assert sorted([*first, *second]) == list(range(len(groups)))
    counts = [int((groups[second] == name).sum()) for name in np.unique(groups)]
    assert counts == (sizes // 2).tolist()


def test_without_two_images_of_any_group_the_first_setting_is_taken():
    x, labels, _ = biased(images=37)
    one = LastLayerRetraining(labels, 2, torch.arange(37), strengths=[0.7, 1.0], draws=2).fit(x)
    assert one.chosen == {"strength": 0.7}


X, LABELS, VALUES = biased(images=53)


@pytest.mark.parametrize(
    ("one", "x", "match"),
    [
        (ErmProbe(LABELS, 2), X[:-1], "a label for each of 52 images"),
        (ErmProbe(LABELS, 2), X * torch.nan, "NaN or infinite"),
        (ErmProbe(LABELS, 3), X, "none of class 2"),
        (ErmProbe(LABELS + 1, 2), X, "none of class 0"),
        (ErmProbe(LABELS * 2, 2), X, "none of class 1"),
        (ErmProbe(LABELS[:0], 2), X[:0], "none of class 0"),
    ],
)
def test_untrainable(one, x, match):
    with pytest.raises(CorrectionError, match=match):
        one.fit(x)


@pytest.mark.usefixtures("without_shape_checks")
def test_refused_settings_and_use():
    with pytest.raises(CorrectionError, match="two classes or more"):
        ErmProbe(LABELS, 1)
    with pytest.raises(CorrectionError, match="a value for each of 53"):
        JustTrainTwice(LABELS, 2, VALUES[:-1])
    with pytest.raises(CorrectionError, match="zero or more, but got -1"):
        JustTrainTwice(LABELS, 2, VALUES - 1)
    with pytest.raises(CorrectionError, match="at least one strength"):
        JustTrainTwice(LABELS, 2, VALUES, first=[])
    with pytest.raises(CorrectionError, match="at least one strength"):
        LastLayerRetraining(LABELS, 2, VALUES, draws=0)
    with pytest.raises(CorrectionError, match="cannot be used yet"):
        ErmProbe(LABELS, 2).logits(X, torch.eye(2, EMBED))
    fitted = ErmProbe(LABELS, 2).fit(X)
    with pytest.raises(CorrectionError, match="a classifier of 2 classes, but got 3"):
        fitted.logits(X, torch.eye(3, EMBED))
    with pytest.raises(CorrectionError, match=f"width {EMBED}, as the probe"):
        fitted.logits(X[:, 1:], torch.eye(2, EMBED))


def test_a_damaged_probe(tmp_path):
    folder = ErmProbe(LABELS, 2).fit(X).save(tmp_path / "kept")
    text = (folder / "correction.json").read_text()
    (folder / "correction.json").write_text(text.replace('"n_classes": 2', '"n_classes": 3'))
    with pytest.raises(CorrectionError, match="a row for each of 3 classes"):
        load_correction(folder)
