"""The locator that infers the attribute: the same as the labelled one where the inference is right."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from headlens.locate import conflicting_groups, margins_of
from headlens.prompts import Attribute, ZeroShotTask
from headlens.steps.locate import LOCATORS

pytestmark = pytest.mark.usefixtures("without_shape_checks")  # the store here is a stand-in

LAYERS, HEADS, EMBED, IMAGES = 2, 3, 7, 211
AXES = dict(zip(["class a", "class b", "on x", "on y"], torch.eye(EMBED), strict=False))


def encode(texts):
    return torch.stack([AXES[text] for text in texts])


class Store:
    """Two heads carry the class (0.1) and the attribute (1.2, into the class scores too)."""

    n_layers, n_heads = LAYERS, HEADS

    def __init__(self, labels, values):
        generator = torch.Generator().manual_seed(0)
        parts = 0.05 * torch.randn(len(labels), LAYERS, HEADS, EMBED, generator=generator)
        parts[:, 0, 1, :2] += torch.nn.functional.one_hot(labels, 2) * torch.rand(len(labels), 1, generator=generator)
        parts[:, 1, 2, :2] += 0.5 * torch.nn.functional.one_hot(values, 2)
        parts[:, 1, 2, 2:4] += 2.0 * torch.nn.functional.one_hot(values, 2)
        self.parts, self.embedding = parts, parts.sum((1, 2))

    def project(self, directions):
        return self.parts @ directions.T


def evidence(values_given):
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(2, size=IMAGES))
    values = torch.from_numpy(np.where(rng.random(IMAGES) < 0.7, labels.numpy(), 1 - labels.numpy()))
    task, attribute = ZeroShotTask(["class a", "class b"], "{}"), Attribute("place", {"x": "on x", "y": "on y"})
    given = values if values_given else 1 - values
    store, classifier = Store(labels, values), task.classifier(encode)
    logits = store.embedding @ classifier.T

    def groups(held):
        names = np.asarray(task.classes, dtype=object), np.asarray(attribute.value_names, dtype=object)
        return conflicting_groups(names[0][labels.numpy()], names[1][held.numpy()])

    margins = margins_of(store.project(classifier), logits, labels)
    return SimpleNamespace(  # the parts of an Evidence that the two locators read
        store=store,
        task=task,
        attribute=attribute,
        labels=labels,
        values=given,
        texts=encode,
        logits=logits,
        margins=margins,
        named_by=lambda locator, own, conflicting: locator(own, margins[1], conflicting),
        conflicting=groups(given),
        data=SimpleNamespace(conflicting=lambda values: groups(torch.as_tensor(values))),
    )


def test_where_the_inference_is_right_it_locates_as_the_labels_do():
    one, labelled = evidence(True), LOCATORS["contrastive"](evidence(True))
    assert (one.store.embedding @ one.attribute.prototypes(encode).T).argmax(1).equal(one.values)
    found = LOCATORS["contrastive-inferred"](one)
    assert found.spurious == labelled.spurious == ((1, 2),) and found.salient == labelled.salient == ((0, 1),)
    assert torch.equal(found.wrong, labelled.wrong)


def test_the_labels_of_the_attribute_are_not_looked_at():
    found = LOCATORS["contrastive-inferred"](evidence(False))
    assert torch.equal(found.wrong, LOCATORS["contrastive-inferred"](evidence(True)).wrong)
