"""What an audit computes in little memory equals what it would compute from the scores of all heads and classes."""

import numpy as np
import pytest
import torch
from tiny_clip import tiny_clip, write_images

import headlens as hl
from headlens.correct import KnowledgeInjection, MeanAblation, leading_pairs
from headlens.document.correction import correction_notes
from headlens.errors import TaskError
from headlens.locate import HeadEffects, margins_of
from headlens.steps.data import AuditData, margins_along
from headlens.steps.texts import TextEmbeddings

CLASSES = 11


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> hl.HeadStore:
    folder = tmp_path_factory.mktemp("scale")
    return hl.extract(tiny_clip(), write_images(folder / "images", 13), folder / "acts.zarr")


@pytest.fixture(scope="module")
def classifier(store: hl.HeadStore) -> torch.Tensor:
    return torch.randn(CLASSES, store.embedding.shape[1], generator=torch.Generator().manual_seed(0))


def test_margins_along_two_classes_an_image_are_those_of_all(
    store: hl.HeadStore, classifier: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = store.subset([3, 1, 7, 7, 12, 0])
    logits, labels = view.embedding @ classifier.T, torch.tensor([0, 5, 10, 2, 2, 1])
    margins, decisions = margins_of(view.project(classifier), logits, labels)
    monkeypatch.setattr(hl.HeadStore, "project", lambda *_, **__: pytest.fail("every head's part of every class"))
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


def asked_of(store: hl.HeadStore, pairs: list[tuple[str, str]] | None = None) -> hl.Audit:
    """An audit of more classes than the embedding is wide, with a text tower that knows every word."""
    classes = [f"thing {number}" for number in range(CLASSES)]
    table = store.manifest.assign(
        label=[classes[row % CLASSES] for row in range(len(store))],
        split=[("val", "test")[row % 2] for row in range(len(store))],
    )
    attribute = hl.Attribute("place", {"in": "inside", "out": "outside"})
    task = hl.ZeroShotTask(classes, "a {}")
    question = hl.Audit(None, store.with_manifest(table), task, attribute, pairs=pairs).question

    def encode(prompts: list[str]) -> torch.Tensor:
        rows = [np.random.default_rng(list(one.encode())).normal(size=store.embedding.shape[1]) for one in prompts]
        return torch.tensor(np.asarray(rows)).float()

    return hl.Audit.of(AuditData(question, store.with_manifest(table), None, TextEmbeddings(encode)))


def test_injection_of_more_classes_than_the_embedding_is_wide(store: hl.HeadStore) -> None:
    audit = asked_of(store)
    audit.locate(spurious=[(2, 1)], salient=[(1, 3)])
    fitted = audit.correct("ltc")
    width = store.embedding.shape[1]
    (injection,) = [one for one in fitted.corrections if isinstance(one, KnowledgeInjection)]
    assert len(audit.task.classes) - 1 >= width > len(injection.pairs)
    torch.testing.assert_close(injection.pairs, leading_pairs(audit.data.texts(audit.task.prompts())))
    assert any("differ more than on average" in note for note in correction_notes(audit))
    audit.evaluate(n_random_sets=2, n_null=0, total=0)


def test_pairs_that_span_every_direction_are_refused_before_the_work(store: hl.HeadStore) -> None:
    pairs = [(f"a {number}", f"b {number}") for number in range(store.embedding.shape[1])]
    with pytest.raises(TaskError, match=r"7 pairs span all 7 directions .* Give fewer than 7"):
        asked_of(store, pairs)
    asked_of(store, pairs[1:])
