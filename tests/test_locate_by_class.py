"""Salient heads class by class, rivals and routes: micro examples worked out by hand, and the rule as published."""

from importlib import import_module

import pytest
import torch

from headlens.errors import LocateError
from headlens.heads import HeadId
from headlens.locate import margins_of, rivals, routes, salient_by_class


def scores(*rows):
    return torch.tensor(rows, dtype=torch.float32)


# Seven images of classes 0, 1 and 2 of five: three right ones of class 0, a right and a wrong one of 1, two wrong of 2.
LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 2])
LOGITS = scores(
    (9, 1, 0, 0, 0), (9, 1, 0, 0, 0), (9, 0, 1, 0, 0), (0, 9, 1, 0, 0), (9, 3, 0, 0, 0), (0, 0, 1, 9, 0),
    (0, 0, 1, 9, 0),
)  # fmt: skip


def decided_by(*heads):
    """Head logits in which, for each image, one of 2 × 3 heads speaks for its predicted class alone."""
    states = torch.zeros(len(heads), 2, 3, 5)
    for image, (layer, head) in enumerate(heads):
        states[image, layer, head, LOGITS[image].argmax()] = 1.0
    return states


def test_each_class_has_the_heads_that_decide_its_right_images():
    heads = decided_by((1, 2), (1, 2), (0, 1), (1, 0), (0, 0), (0, 0), (0, 0))
    found = salient_by_class(*margins_of(heads, LOGITS, LABELS), otherwise=[(0, 2)])
    # Class 0: V = 2/3 and 1/3, two heads have some, and 1/3 is not more than 1/2. Class 2 has no right image.
    # Class 1 has one active head, and V = 1 is not more than 1 / 1.
    assert found == {0: [HeadId(1, 2)], 1: [HeadId(0, 2)], 2: [HeadId(0, 2)]}


def test_of_one_active_head_none_exceeds_its_share():
    """V = 1 is not more than 1 / 1: the rule as published names no head there, and the fallback steps in."""
    heads = decided_by((1, 2), (1, 2), (1, 2), (1, 0), (0, 0), (0, 0), (0, 0))
    assert salient_by_class(*margins_of(heads, LOGITS, LABELS))[0] == []


def test_no_class_keeps_a_spurious_head():
    heads = decided_by((1, 2), (1, 2), (0, 1), (1, 0), (0, 0), (0, 0), (0, 0))
    found = salient_by_class(*margins_of(heads, LOGITS, LABELS), spurious=[(1, 2)], otherwise=[(1, 2), (1, 1)])
    assert found[0] == [HeadId(1, 1)]


def test_a_rival_is_what_a_class_is_mostly_mistaken_for_and_else_its_runner_up():
    assert rivals(LOGITS, LABELS) == {0: 1, 1: 0, 2: 3}


def test_a_predicted_class_without_images_leads_to_the_class_that_is_mistaken_for_it():
    # 3 is predicted for images of class 2; nothing is ever taken for 4.
    assert routes(LOGITS, LABELS).tolist() == [0, 1, 2, 2, -1]


def test_labels_outside_the_classes_are_refused():
    heads = decided_by((1, 2), (1, 2), (0, 1), (1, 0), (0, 0), (0, 0), (0, 0))
    with pytest.raises(LocateError, match="none of the 5 classes"):
        salient_by_class(*margins_of(heads, LOGITS, LABELS + 3))


def test_an_error_is_not_taken_for_a_class_without_correct_images(monkeypatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    module = import_module("headlens.locate.contrastive")  # the package's function has the same name
    monkeypatch.setattr(module, "attribute_heads_from_margins", broken)
    with pytest.raises(ZeroDivisionError):
        salient_by_class(*margins_of(decided_by(*[(1, 2)] * 7), LOGITS, LABELS))
