"""What scores are made of: corrected embeddings along the classifier, or along another one."""

import numpy as np
import pytest
import torch

from headlens.correct import Compose, ErmProbe, MeanAblation, OrthoCali, RoboShot, ZeroAblation, calibrate_classifier
from headlens.errors import CorrectionError
from headlens.states import Decomposition

LAYERS, HEADS, EMBED, CLASSES, IMAGES = 3, 5, 13, 2, 17


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class View:
    n_layers, n_heads = LAYERS, HEADS

    def __init__(self, seed=0):
        self.contributions = normal(seed, IMAGES, LAYERS, HEADS, EMBED)
        self.embedding = self.contributions.sum((1, 2))

    def heads(self, layer, head):
        return self.contributions[:, layer, head]


CLASSIFIER = normal(1, CLASSES, EMBED)
LABELS = torch.arange(IMAGES) % CLASSES
CALI = OrthoCali(normal(2, 3, EMBED), normal(3, 4, 2, EMBED), 7)


@pytest.fixture
def raw(golden):
    return {name: torch.from_numpy(np.asarray(a)) for name, a in golden("methods").items()}


def test_golden_ortho_cali(raw):
    embedding = raw["attns"].sum((1, 2)) + raw["mlps"].sum(1)
    one = OrthoCali(raw["spurious_prompt_embeddings"], raw["candidate_prompt_embeddings"][raw["candidate_pairs"]])
    expected = embedding @ raw["orthocal_classifier"]
    found = one.logits(embedding, raw["classifier"].T)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=2e-6 * float(embedding.norm(dim=1).max()))
    assert torch.equal(found.argmax(1), expected.argmax(1))


def test_golden_classes_of_every_method(raw):
    """The embeddings that the published implementations give, scored: the same class for every image."""
    attns, mlps, classifier = raw["attns"], raw["mlps"], raw["classifier"].T
    whole = Decomposition(
        heads=attns,
        mlps=mlps[:, 1:],
        stem=mlps[:, 0],
        constant=torch.zeros_like(mlps[:, 0]),
        pool=torch.zeros_like(mlps[:, 0]),
    )
    spurious = [tuple(head) for head in raw["spurious"].tolist()]
    for one, name in (
        (MeanAblation(spurious, reference="self"), "ablated_embedding"),
        (ZeroAblation(spurious), "zero_ablated_embedding"),
    ):
        assert torch.equal(one.logits(whole, classifier).argmax(1), (raw[name] @ raw["classifier"]).argmax(1))
    for one, name in (
        (RoboShot(reject=raw["reject_pairs"]), "roboshot_reject"),
        (RoboShot(accept=raw["accept_pairs"]), "roboshot_accept"),
        (RoboShot(raw["reject_pairs"], raw["accept_pairs"]), "roboshot_both"),
    ):
        found = one.logits(whole.total(), classifier).argmax(1)
        assert torch.equal(found, (raw[name] @ raw["classifier"]).argmax(1))


def test_by_default_they_are_the_corrected_embedding_along_the_classifier():
    view, one = View(), MeanAblation([(0, 1)]).fit(View(7))
    torch.testing.assert_close(one.logits(view, CLASSIFIER), one.apply(view).embedding @ CLASSIFIER.T)
    shot = RoboShot(normal(4, 1, 2, EMBED))
    assert torch.equal(shot.logits(view.embedding, CLASSIFIER), shot.apply(view).embedding @ CLASSIFIER.T)
    assert not one.changes_classifier and not shot.changes_classifier
    assert Compose([]).logits(view, CLASSIFIER).equal(view.embedding @ CLASSIFIER.T)


def test_the_classifier_comes_in_the_embeddings_precision():
    view = View()
    view.contributions, view.embedding = view.contributions.float(), view.embedding.float()
    for one in (ZeroAblation([(0, 1)]), CALI, ErmProbe(LABELS, CLASSES).fit(View())):
        assert one.logits(view, CLASSIFIER).dtype == torch.float32


def test_calibration_leaves_images_and_changes_the_classifier():
    view = View()
    assert CALI.apply(view) is view and CALI.fitted and not CALI.transductive
    expected = view.embedding @ calibrate_classifier(CLASSIFIER, CALI.spurious, CALI.pairs, 7).T
    assert torch.equal(CALI.logits(view, CLASSIFIER), expected)
    assert repr(CALI) == "OrthoCali(spurious=float64[3, 13], pairs=float64[4, 2, 13], weight=7.0)"


def test_edits_come_first_and_one_change_of_the_classifier_last():
    view, ablation = View(), MeanAblation([(0, 1), (2, 2)])
    both = Compose([ablation, CALI]).fit(View(7))
    expected = CALI.logits(ablation.fit(View(7)).apply(view), CLASSIFIER)
    assert torch.equal(both.logits(view, CLASSIFIER), expected)
    assert both.changes_classifier and not Compose([ablation]).changes_classifier
    assert torch.equal(both.apply(view).embedding, ablation.fit(View(7)).apply(view).embedding)
    # A probe is trained on what the edits leave of the reference split.
    probed = Compose([ablation, ErmProbe(LABELS, CLASSES)]).fit(View(7))
    own = ErmProbe(LABELS, CLASSES).fit(ablation.fit(View(7)).apply(View(7)))
    assert torch.equal(probed.logits(view, CLASSIFIER), own.logits(ablation.fit(View(7)).apply(view), CLASSIFIER))
    assert torch.equal(Compose([both.corrections[0], Compose([CALI])]).logits(view, CLASSIFIER), expected)


@pytest.mark.parametrize(
    "order",
    [[CALI, CALI], [CALI, ZeroAblation([(0, 1)])], [Compose([CALI]), ErmProbe(LABELS, CLASSES)]],
    ids=["two", "edit after it", "nested"],
)
def test_a_change_of_the_classifier_anywhere_else_is_refused(order):
    with pytest.raises(CorrectionError, match=r"in the last place, but got .*OrthoCali") as caught:
        Compose(order)
    assert "Two classifiers" in caught.value.remedy


@pytest.mark.usefixtures("without_shape_checks")
def test_unusable_input():
    with pytest.raises(CorrectionError, match="whole embeddings"):
        ZeroAblation([(0, 1)]).logits(normal(0, 7, LAYERS, HEADS, EMBED), CLASSIFIER)
    with pytest.raises(CorrectionError, match="width 11, as the classifier"):
        ZeroAblation([(0, 1)]).logits(View(), normal(0, CLASSES, 11))
    with pytest.raises(CorrectionError, match="one width"):
        OrthoCali(normal(2, 3, 11), normal(3, 4, 2, EMBED))
    with pytest.raises(CorrectionError, match="at least one of each"):
        OrthoCali(normal(2, 0, EMBED), normal(3, 4, 2, EMBED))
    for bad in (None, "view", normal(0, 7, 5, EMBED)):
        with pytest.raises(CorrectionError, match="whole embeddings"):
            CALI.logits(bad, CLASSIFIER)
