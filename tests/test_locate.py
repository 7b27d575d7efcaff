"""Contrastive attribution and attribute heads: the golden arrays, a micro model worked by hand, and every refusal."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headlens import locate
from headlens.errors import LocateError, UnknownNameError
from headlens.heads import HeadId


@pytest.fixture
def arrays(golden):
    raw = {name: torch.from_numpy(np.asarray(a)) for name, a in golden("methods").items()}
    classifier = raw["classifier"]
    embedding = raw["attns"].sum((1, 2)) + raw["mlps"].sum(1)
    conflicting = torch.isin(raw["groups"], raw["conflict_groups"])
    return raw, (raw["attns"] @ classifier, embedding @ classifier, raw["labels"], conflicting)


def random_task(seed, images=61, layers=3, heads=5, classes=4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    head_logits = torch.randn(images, layers, heads, classes, generator=generator, dtype=torch.float64).to(dtype)
    labels = torch.randint(classes, (images,), generator=generator)
    conflicting = torch.rand(images, generator=generator) < 0.7
    return head_logits, head_logits.sum((1, 2)), labels, conflicting


def test_golden_location(arrays):
    raw, inputs = arrays
    found = locate.contrastive(*inputs)
    np.testing.assert_allclose(found.correct.numpy(), raw["counts_correct"].numpy(), atol=2e-6)
    np.testing.assert_allclose(found.wrong.numpy(), raw["counts_wrong"].numpy(), atol=2e-6)
    assert list(found.spurious) == [tuple(h) for h in raw["spurious"].tolist()]
    assert list(found.salient) == [tuple(h) for h in raw["salient"].tolist()]
    assert (found.n_correct, found.n_wrong) == (int(raw["n_conflict_correct"]), int(raw["n_conflict_wrong"]))
    assert found.threshold == 1 / 4
    assert found.correct.dtype == torch.float32


def test_golden_location_in_float64(arrays):
    _, (head_logits, logits, labels, conflicting) = arrays
    single = locate.contrastive(head_logits, logits, labels, conflicting)
    double = locate.contrastive(head_logits.double(), logits.double(), labels, conflicting)
    assert double.correct.dtype == torch.float64
    assert (double.spurious, double.salient) == (single.spurious, single.salient)


def test_golden_decisions(arrays):
    raw, (_, logits, labels, _) = arrays
    decisions = locate.decide(logits, labels)
    assert torch.equal(decisions.predicted, raw["pred"])
    assert torch.equal(decisions.other, raw["other"])


def test_golden_single_set_rule(arrays):
    raw, (head_logits, logits, labels, conflicting) = arrays
    found = locate.attribute_heads(head_logits[conflicting], logits[conflicting], labels[conflicting])
    assert found.heads == found.salient == tuple(tuple(h) for h in raw["single"].tolist())
    np.testing.assert_allclose(found.correct.numpy(), raw["counts_correct"].numpy(), atol=2e-6)
    assert found.spurious == () and found.n_wrong == 0 and not found.wrong.any()


def micro_model():
    """Three classes, one layer of three heads, each image's top head written down: right → 0, 0, 1; wrong → 2, 2, 1."""
    logits = torch.tensor([[3.0, 1, 0], [0, 3, 1], [1, 0, 3], [3.0, 1, 0], [0, 3, 1], [1, 0, 3]])
    labels = torch.tensor([0, 1, 2, 2, 0, 1])
    other = torch.tensor([1, 2, 0, 2, 0, 1])  # runner-up for the first three, the true class for the others
    head_logits = torch.zeros(6, 1, 3, 3)
    for image, head in enumerate([0, 0, 1, 2, 2, 1]):
        head_logits[image, 0, head, logits[image].argmax()] = 1.0
        head_logits[image, 0, :, other[image]] -= 0.5
        # A third class that the decision is not between must not count, however large.
        third = ({0, 1, 2} - {int(logits[image].argmax()), int(other[image])}).pop()
        head_logits[image, 0, (head + 1) % 3, third] = -99.0
    return head_logits, logits, labels, torch.ones(6, dtype=torch.bool)


def test_micro_model_by_hand():
    found = locate.contrastive(*micro_model())
    torch.testing.assert_close(found.correct, torch.tensor([[2 / 3, 1 / 3, 0]]))
    torch.testing.assert_close(found.wrong, torch.tensor([[0, 1 / 3, 2 / 3]]))
    assert found.threshold == 1 / 3
    assert found.spurious == (HeadId(0, 2),) and found.salient == (HeadId(0, 0),)
    table = found.table()
    assert table["head"].tolist() == ["L0H2", "L0H1", "L0H0"]
    assert table["role"].tolist() == ["spurious", "", "salient"]
    assert "L0H2" in found._repr_html_()
    scores = found.scores()
    assert scores.selection == (HeadId(0, 2),) and scores[0, 2] == pytest.approx(2 / 3)


def test_images_outside_the_conflicting_groups_do_not_count():
    head_logits, logits, labels, conflicting = micro_model()
    twice = [torch.cat([x, x]) for x in (head_logits, logits, labels)]
    twice[0][6:] = torch.randn(6, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.cat([conflicting, ~conflicting])
    assert locate.contrastive(*twice, mask).table().equals(locate.contrastive(*micro_model()).table())


def test_a_difference_equal_to_the_threshold_is_not_enough():
    # Ten right and ten wrong images over five heads: γ = 1/5, and head 0 leads by 3/10 − 1/10.
    right = [0, 1, 1, 1, 2, 2, 3, 3, 4, 4]
    wrong = [0, 0, 0, 1, 2, 2, 3, 3, 4, 4]
    credits = torch.nn.functional.one_hot(torch.tensor(right + wrong), 5).float()[:, None, :]
    found = locate.contrastive_from_credit(credits, torch.arange(20) < 10)
    assert found.threshold == 0.2
    assert found.spurious == () and found.salient == ()


def test_heads_come_largest_difference_first():
    right = [0] * 50 + [1] * 30 + [4] * 20
    wrong = [2] * 35 + [3] * 60 + [4] * 5
    credits = torch.nn.functional.one_hot(torch.tensor(right + wrong[:100]), 7).float()[:, None, :]
    found = locate.contrastive_from_credit(credits, torch.arange(200) < 100)
    assert found.spurious == ((0, 3), (0, 2)) and found.salient == ((0, 0), (0, 1))


def test_no_head_above_the_threshold_is_an_answer():
    credits = torch.nn.functional.one_hot(torch.tensor([0, 1, 0, 1]), 3).float()[:, None, :]
    found = locate.contrastive_from_credit(credits, torch.tensor([True, True, False, False]))
    assert found.spurious == () and found.salient == ()
    assert found.table()["role"].tolist() == ["", ""]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_shares_agree_with_counting_one_image_at_a_time(seed, dtype):
    head_logits, logits, labels, conflicting = random_task(seed, dtype=dtype)
    found = locate.contrastive(head_logits, logits, labels, conflicting)
    votes = {True: np.zeros((3, 5)), False: np.zeros((3, 5))}
    for image in conflicting.nonzero().flatten().tolist():
        order = logits[image].argsort(descending=True).tolist()
        right = order[0] == labels[image]
        other = order[1] if right else int(labels[image])
        score = head_logits[image, :, :, order[0]] - head_logits[image, :, :, other]
        votes[bool(right)][divmod(int(score.argmax()), 5)] += 1
    for share, counted in ((found.correct, votes[True]), (found.wrong, votes[False])):
        np.testing.assert_allclose(share.numpy(), counted / counted.sum(), atol=1e-6)
        assert float(share.sum()) == pytest.approx(1.0, abs=1e-6)
    assert found.difference.dtype == dtype


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_the_order_of_images_and_of_classes_does_not_matter(seed):
    head_logits, logits, labels, conflicting = random_task(seed)
    generator = torch.Generator().manual_seed(seed)
    images, classes = torch.randperm(61, generator=generator), torch.randperm(4, generator=generator)
    moved = locate.contrastive(
        head_logits[images][..., classes],
        logits[images][:, classes],
        classes.argsort()[labels[images]],
        conflicting[images],
    )
    found = locate.contrastive(head_logits, logits, labels, conflicting)
    assert torch.equal(moved.correct, found.correct) and torch.equal(moved.wrong, found.wrong)


def test_full_variant_takes_every_image():
    head_logits, logits, labels, conflicting = random_task(3)
    everything = torch.ones_like(conflicting)
    full = locate.contrastive_full(head_logits, logits, labels, conflicting)
    assert torch.equal(full.wrong, locate.contrastive(head_logits, logits, labels, everything).wrong)
    assert full.method == "contrastive-full" and full.n_correct + full.n_wrong == 61


def test_soft_credit_is_the_mean_score():
    head_logits, logits, labels, conflicting = random_task(5, classes=2)
    found = locate.contrastive(head_logits, logits, labels, conflicting, credit="soft")
    wrong = conflicting & (logits.argmax(1) != labels)
    score = head_logits[wrong, :, :, 1 - labels[wrong][0]] - head_logits[wrong, :, :, labels[wrong][0]]
    sign = torch.where(labels[wrong] == labels[wrong][0], 1.0, -1.0)
    torch.testing.assert_close(found.wrong, (score * sign[:, None, None]).mean(0))
    assert found.method == "contrastive-soft"


def test_registry_holds_locators_of_one_signature():
    *inputs, conflicting = random_task(7)
    for locator in locate.LOCATORS.values():
        assert isinstance(locator(*locate.margins_of(*inputs), conflicting), locate.Located)
    with pytest.raises(UnknownNameError, match="no locator 'nearest'"):
        locate.LOCATORS["nearest"]


def test_margins_are_enough():
    """A projection on t_p − t_o of each image is all that a locator reads: two classes an image, not all."""
    head_logits, logits, labels, conflicting = random_task(11)
    decisions = locate.decide(logits, labels)
    rows = torch.arange(len(labels))
    margins = head_logits[rows, ..., decisions.predicted] - head_logits[rows, ..., decisions.other]
    assert torch.equal(locate.head_margins(head_logits, decisions), margins)
    assert torch.equal(decisions.labels, labels)
    found = locate.contrastive_from_margins(margins, decisions, conflicting)
    assert found.table().equals(locate.contrastive(head_logits, logits, labels, conflicting).table())
    attribute = locate.attribute_heads_from_margins(margins, decisions)
    assert attribute.table().equals(locate.attribute_heads(head_logits, logits, labels).table())
    with pytest.raises(LocateError, match=r"not \[image layer head class\]"):
        locate.head_margins(head_logits[:-1], decisions)


@pytest.mark.usefixtures("without_shape_checks")
def test_heads_named_elsewhere():
    published = locate.Located("published", ["L1H2", (0, 3)], salient=["2.1"])
    assert published.spurious == (HeadId(1, 2), HeadId(0, 3)) and published.salient == (HeadId(2, 1),)
    assert (
        published.table()["role"].tolist() == ["spurious", "spurious", "salient"] and "L1H2" in published._repr_html_()
    )
    with pytest.raises(LocateError, match="without a score"):
        published.scores()


def test_labels_of_any_integer_type():
    head_logits, logits, labels, conflicting = random_task(7)
    found = locate.contrastive(head_logits, logits, labels.to(torch.int32), conflicting)
    assert torch.equal(found.wrong, locate.contrastive(head_logits, logits, labels, conflicting).wrong)


# ---- refusals -------------------------------------------------------------------------------------------------------


def refused(inputs, match):
    with pytest.raises(LocateError, match=match) as caught:
        locate.contrastive(*inputs)
    assert caught.value.remedy
    return caught.value


def test_no_wrong_predictions():
    head_logits, logits, _, conflicting = random_task(1)
    refused((head_logits, logits, logits.argmax(1), conflicting), "classified correctly: there is nothing to contrast")


def test_no_right_predictions():
    head_logits, logits, _, conflicting = random_task(1)
    refused((head_logits, logits, logits.argmin(1), conflicting), "classified incorrectly: there is nothing")
    with pytest.raises(LocateError, match="classified correctly"):
        locate.attribute_heads(head_logits, logits, logits.argmin(1))


def test_empty_conflicting_group():
    head_logits, logits, labels, conflicting = random_task(1)
    refused((head_logits, logits, labels, torch.zeros_like(conflicting)), "in the conflicting groups")


def test_one_class():
    head_logits, logits, labels, conflicting = random_task(1, classes=1)
    refused((head_logits, logits, labels, conflicting), "only one class")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite(value):
    head_logits, logits, labels, conflicting = random_task(1)
    bad = logits.clone()
    bad[17, 1] = value
    refused((head_logits, bad, labels, conflicting), "1 of the logits are NaN or infinite, the first at image 17")
    bad = head_logits.clone()
    bad[19, 0, 2, 1] = value
    refused((bad, logits, labels, conflicting), "1 of the head logits are NaN or infinite, the first at image 19")


@pytest.mark.parametrize("label", [-1, 4])
def test_labels_outside_the_classes(label):
    head_logits, logits, labels, conflicting = random_task(1)
    labels[3] = label
    refused((head_logits, logits, labels, conflicting), f"Label {label} is none of the 4")


def test_no_image():
    head_logits, logits, labels, conflicting = random_task(1)
    refused((head_logits[:0], logits[:0], labels[:0], conflicting[:0]), "are empty")


@pytest.mark.usefixtures("without_shape_checks")
def test_shapes_that_disagree():
    head_logits, logits, labels, conflicting = random_task(1)
    refused((head_logits[:-1], logits, labels, conflicting), "differ in images or classes")
    refused((head_logits[..., :-1], logits, labels, conflicting), "differ in images or classes")
    refused((head_logits, logits, labels[:-1], conflicting), "differ in images or classes")
    refused((head_logits, logits, labels, conflicting[:-1]), "not one for each of 61 images")
    refused((head_logits.sum(1), logits, labels, conflicting), r"head logits of \[image layer head class\]")
    with pytest.raises(LocateError, match="no credit 'hard'"):
        locate.head_credit(head_logits[..., 0], "hard")
