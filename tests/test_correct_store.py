"""Corrections on what extraction and decomposition really give, and total ablation of a real tower."""

import pytest
import torch
from tiny_clip import EMBED, HEADS, LAYERS, pixels, tiny_clip, write_images

from headlens.correct import (
    Compose,
    HeadErasure,
    KnowledgeInjection,
    KnownLogits,
    MeanAblation,
    PrototypeAblation,
    ResampleAblation,
    RoboShot,
    View,
    ZeroAblation,
    load_correction,
    mean_z,
    total_ablation_hooks,
)
from headlens.errors import CorrectionError
from headlens.extraction import extract
from headlens.states import decompose

COUNT = 11
PAIRS = torch.randn(2, 2, EMBED, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def clip():
    return tiny_clip()


@pytest.fixture(scope="module")
def stored(clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corrected")
    frame = write_images(folder / "images", COUNT)
    return extract(clip, frame, folder / "acts.zarr", batch_size=4, workers=1), pixels(clip, frame)


def test_a_store_and_a_decomposition_are_corrected_alike(clip, stored, tmp_path):
    store, images = stored
    whole = decompose(clip.vision, images, normalize=True)
    ltc = Compose([MeanAblation([(2, 3), (0, 1)]), KnowledgeInjection([(1, 4)], PAIRS)]).fit(store.subset(range(7)))
    ltc = load_correction(ltc.save(tmp_path / "ltc"))
    view, parts = ltc.apply(store), ltc.apply(whole)
    torch.testing.assert_close(view.embedding, parts.total(), atol=2e-5, rtol=0)
    directions = torch.randn(3, EMBED, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(view.project(directions), parts.heads @ directions.T, atol=2e-5, rtol=0)
    assert view.manifest is store.manifest and view.fingerprint == store.fingerprint == clip.fingerprint
    one = ltc.apply(store.subset([8]))
    torch.testing.assert_close(one.embedding[0], view.embedding[8])


def test_the_difference_is_the_one_predicted(stored):
    store, _ = stored
    fitted = MeanAblation([(1, 2)]).fit(store)
    old = store.heads(1, 2)
    predicted = store.embedding + old.mean(0) - old
    torch.testing.assert_close(fitted.apply(store).embedding, predicted, atol=1e-6, rtol=0)


def test_scores_of_a_store_are_those_of_its_corrected_embeddings(stored):
    store, _ = stored
    classifier = torch.randn(3, EMBED, generator=torch.Generator().manual_seed(2))
    for layer, head in ((0, 1), (2, 4)):
        part = store.heads(layer, head)
        torch.testing.assert_close(
            store.project_head(layer, head, classifier), part @ classifier.T, atol=1e-6, rtol=1e-5
        )
        torch.testing.assert_close(store.head_norms(layer, head), part.double().norm(dim=1), atol=1e-7, rtol=1e-5)
    values = torch.arange(COUNT) % 2
    parts = [
        MeanAblation([(2, 3), (0, 1)]), MeanAblation([(1, 1)], reference="self"),
        PrototypeAblation([(0, 0)], values > 0),
        ZeroAblation([(2, 0)]), ResampleAblation([(1, 3)], count=4), KnowledgeInjection([(1, 4), (2, 3)], PAIRS),
        HeadErasure([(0, 2)], values),
    ]  # fmt: skip
    for one in [*parts, Compose(parts), Compose([*parts, RoboShot(PAIRS)])]:
        one = one.fit(store)
        expected = one.apply(store).embedding @ classifier.T
        known = KnownLogits(store, classifier)
        for target in (store, known, known):
            found = one.logits(target, classifier)
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
            view = one.apply(target)
            torch.testing.assert_close(view.logits(-classifier), -expected, atol=2e-5, rtol=1e-5)
        every = view.project(classifier)
        for layer, head in ((0, 0), (1, 4), (2, 3)):
            own = view.heads(layer, head)
            torch.testing.assert_close(every[:, layer, head], own @ classifier.T, atol=2e-6, rtol=1e-5)
            torch.testing.assert_close(view.head_norms(layer, head), own.double().norm(dim=1), atol=1e-6, rtol=1e-5)


def test_known_scores_are_computed_once_and_no_more_of_them_kept_than_allowed(stored):
    store, _ = stored
    classifier = torch.randn(3, EMBED, generator=torch.Generator().manual_seed(2))

    class Counting(View):
        asked = 0

        def project_head(self, layer, head, directions):
            self.asked += 1
            return super().project_head(layer, head, directions)

    for allowed, asked in ((1 << 20, 2), (COUNT * 3 * 4, 3), (0, 4)):
        counting = Counting(store)
        known = KnownLogits(counting, classifier, max_bytes=allowed)
        one = MeanAblation([(0, 1), (2, 2)]).fit(store)
        first, second = one.logits(known, classifier), one.logits(known, classifier.clone())
        assert torch.equal(first, second) and counting.asked == asked
    given = KnownLogits(store, classifier, {(0, 1): torch.zeros(COUNT, 3)})
    gone = store.embedding @ classifier.T + MeanAblation([(0, 1)]).fit(store).means @ classifier.T
    torch.testing.assert_close(MeanAblation([(0, 1)]).fit(store).logits(given, classifier), gone)


def test_roboshot_on_a_store(stored):
    store, _ = stored
    shot = RoboShot(PAIRS[:1], PAIRS[1:])
    assert torch.equal(shot.apply(store).embedding, shot.apply(store.embedding))


def test_another_model_is_refused(stored, tmp_path):
    store, _ = stored
    other = tiny_clip(seed=1)
    fitted = MeanAblation([(0, 0)]).fit(store)
    theirs = extract(other, write_images(tmp_path / "images", 3), tmp_path / "acts.zarr", workers=1)
    with pytest.raises(CorrectionError, match=r"seed-0.*seed-1"):
        fitted.apply(theirs)
    with pytest.raises(CorrectionError, match=f"no head L{LAYERS}H0"):
        ZeroAblation([(LAYERS, 0)]).apply(store)


@pytest.mark.parametrize("tokens", ["class", "all"])
def test_total_zero_ablation_is_removing_the_head_from_the_weights(tokens):
    clip = tiny_clip(torch.float64)
    images = torch.randn(5, 3, 14, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    head = (1, 3)
    values = {head: torch.zeros(2, dtype=torch.float64)}
    with torch.no_grad():
        before = clip.vision(images)
        ablated = clip.vision.run_with_hooks(images, fwd_hooks=total_ablation_hooks(values, tokens))
        assert (ablated - before).abs().max() > 1e-3
        clip.vision.blocks[head[0]].attn.W_O[head[1]] = 0
        removed = clip.vision(images)
    same = (ablated - removed).abs().max() < 1e-12
    assert same if tokens == "all" else not same


def test_total_mean_ablation_in_the_last_layer_is_the_same_at_class_and_all():
    clip = tiny_clip(torch.float64)
    images = torch.randn(5, 3, 14, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    heads = [(LAYERS - 1, 1), (LAYERS - 1, HEADS - 1)]
    results = []
    for tokens in ("class", "all"):
        means = mean_z(clip.vision, images.split(2), heads, tokens)
        with torch.no_grad():
            results.append(clip.vision.run_with_hooks(images, fwd_hooks=total_ablation_hooks(means, tokens)))
    torch.testing.assert_close(*results, atol=1e-12, rtol=0)
