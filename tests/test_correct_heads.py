"""Corrections of heads: golden arrays, the three forms of target, images one at a time, saving and loading."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headlens import correct
from headlens.correct import (
    Compose,
    HeadView,
    KnowledgeInjection,
    MeanAblation,
    PrototypeAblation,
    ResampleAblation,
    RoboShot,
    ZeroAblation,
    load_correction,
)
from headlens.errors import CorrectionError, OutputError
from headlens.serialization import digest

LAYERS, HEADS, EMBED = 3, 5, 13


def normal(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def states(seed=0, images=17, dtype=torch.float64):
    return normal(seed, images, LAYERS, HEADS, EMBED, dtype=dtype)


PAIRS = normal(99, 2, 2, EMBED)


class View:
    """The least that a store has to offer."""

    n_layers, n_heads = LAYERS, HEADS

    def __init__(self, contributions, fingerprint=None):
        self.contributions = contributions
        self.embedding = contributions.sum((1, 2)) + 0.25
        if fingerprint is not None:
            self.fingerprint = fingerprint

    def heads(self, layer, head):
        return self.contributions[:, layer, head]


@dataclass(frozen=True)
class Parts:
    heads: torch.Tensor
    mlps: torch.Tensor
    stem: torch.Tensor
    constant: torch.Tensor


def parts(contributions):
    n = len(contributions)
    return Parts(contributions, normal(1, n, LAYERS, EMBED), normal(2, n, EMBED), normal(3, n, EMBED))


def every_correction():
    reference = states(7, images=29)
    some = [(0, 1), (2, 4)]
    return {
        "mean": MeanAblation(some).fit(reference),
        "zero": ZeroAblation(some),
        "prototype": PrototypeAblation(some, torch.arange(29) < 11).fit(reference),
        "injection": KnowledgeInjection(some, PAIRS),
        "ltc": correct.locate_then_correct(some, [(1, 0)], PAIRS).fit(reference),
        "nothing": MeanAblation([]).fit(reference),
        "empty": Compose([]),
    }


# ---- golden ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def raw(golden):
    return {name: torch.from_numpy(np.asarray(a)) for name, a in golden("methods").items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_golden_ablation(raw, dtype):
    spurious = [tuple(h) for h in raw["spurious"].tolist()]
    attns, mlps = raw["attns"].to(dtype), raw["mlps"].sum(1).to(dtype)
    mean = MeanAblation(spurious).fit(attns).apply(attns).sum((1, 2)) + mlps
    zero = ZeroAblation(spurious).apply(attns).sum((1, 2)) + mlps
    himself = MeanAblation(spurious, reference="self").apply(attns).sum((1, 2)) + mlps
    np.testing.assert_allclose(mean.numpy(), raw["ablated_embedding"].numpy(), atol=2e-6)
    np.testing.assert_allclose(himself.numpy(), raw["ablated_embedding"].numpy(), atol=2e-6)
    np.testing.assert_allclose(zero.numpy(), raw["zero_ablated_embedding"].numpy(), atol=2e-6)


def test_golden_locate_then_correct(raw):
    spurious, salient = ([tuple(h) for h in raw[name].tolist()] for name in ("spurious", "salient"))
    attns = raw["attns"]
    ltc = Compose([MeanAblation(spurious), KnowledgeInjection(salient, raw["accept_pairs"])]).fit(attns)
    embedding = ltc.apply(attns).sum((1, 2)) + raw["mlps"].sum(1)
    np.testing.assert_allclose(embedding.numpy(), raw["ltc_embedding"].numpy(), atol=2e-6)
    assert torch.equal((embedding @ raw["classifier"]).argmax(1), raw["ltc_pred"])


# ---- the three forms of target --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in every_correction() if name != "empty"])
def test_tensor_view_and_decomposition_agree(name):
    one, contributions = every_correction()[name], states()
    before = contributions.clone()
    dense = one.apply(contributions)
    assert torch.equal(contributions, before)
    view, whole = one.apply(View(contributions)), one.apply(parts(contributions))
    torch.testing.assert_close(view.embedding, dense.sum((1, 2)) + 0.25)
    for layer in range(LAYERS):
        for head in range(HEADS):
            torch.testing.assert_close(view.heads(layer, head), dense[:, layer, head])
    directions = normal(5, 2, EMBED)
    torch.testing.assert_close(view.project(directions), dense @ directions.T)
    assert isinstance(view, HeadView) and len(view) == len(contributions)
    assert torch.equal(whole.heads, dense) and torch.equal(whole.mlps, parts(contributions).mlps)


def test_no_correction_leaves_everything_as_it_is():
    for target in (states(), View(states()), parts(states())):
        assert Compose([]).fit(target).apply(target) is target
    assert torch.equal(MeanAblation([]).fit(states(1)).apply(states()), states())
    assert torch.equal(ZeroAblation([]).apply(View(states())).embedding, View(states()).embedding)


def test_only_the_named_heads_change():
    contributions = states()
    edited = MeanAblation([(0, 1), (2, 4)]).fit(contributions).apply(contributions)
    changed = (edited != contributions).flatten(3).any(-1).any(0)
    assert changed.nonzero().tolist() == [[0, 1], [2, 4]]
    torch.testing.assert_close(edited[0, 0, 1], contributions[:, 0, 1].mean(0))
    assert (edited[:, 0, 1] == edited[0, 0, 1]).all()


def test_a_view_with_project_is_asked_for_it():
    class Projecting(View):
        def project(self, directions):
            return self.contributions @ directions.T

    contributions, directions = states(), normal(5, 2, EMBED)
    one = every_correction()["ltc"]
    for view in (Projecting(contributions), View(contributions)):
        torch.testing.assert_close(one.apply(view).project(directions), one.apply(contributions) @ directions.T)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**20), image=st.integers(0, 22))
@pytest.mark.parametrize("name", every_correction())
def test_one_image_alone_gets_what_it_gets_among_many(name, seed, image):
    one, contributions = every_correction()[name], states(seed, images=23)
    among, alone = one.apply(contributions)[image], one.apply(contributions[image : image + 1])[0]
    torch.testing.assert_close(alone, among, atol=1e-14, rtol=1e-14)
    if name in ("mean", "zero", "prototype"):
        assert torch.equal(alone, among)
    assert not one.transductive


def test_own_mean_is_said_to_depend_on_the_others():
    one = MeanAblation([(0, 1)], reference="self")
    assert one.fitted and one.transductive and Compose([one]).transductive
    contributions = states()
    assert not torch.equal(one.apply(contributions)[0], one.apply(contributions[:5])[0])


def test_fit_gives_a_copy():
    one = MeanAblation([(0, 1)])
    fitted = one.fit(states())
    assert not one.fitted and fitted.fitted and fitted is not one
    assert "not fitted" in repr(one) and repr(fitted) == "MeanAblation(heads=[L0H1])"


def test_fit_on_a_view_and_on_parts():
    contributions = states()
    means = [MeanAblation([(2, 3)]).fit(t).means for t in (contributions, View(contributions), parts(contributions))]
    assert torch.equal(means[0], means[1]) and torch.equal(means[0], means[2])


def test_composition_fits_each_on_what_the_ones_before_leave():
    reference, contributions = states(7), states()
    both = Compose([KnowledgeInjection([(1, 1)], PAIRS), MeanAblation([(1, 1)])]).fit(reference)
    expected = correct.inject(reference[:, 1, 1], PAIRS).mean(0)
    torch.testing.assert_close(both.apply(contributions)[0, 1, 1], expected)
    other = Compose([MeanAblation([(1, 1)]), KnowledgeInjection([(1, 1)], PAIRS)]).fit(reference)
    assert not torch.allclose(other.apply(contributions), both.apply(contributions))


def test_views_chain():
    contributions = states()
    steps = [MeanAblation([(0, 1)]).fit(contributions), KnowledgeInjection([(0, 2)], PAIRS), ZeroAblation([(2, 2)])]
    view, dense = View(contributions), contributions
    for step in steps:
        view, dense = step.apply(view), step.apply(dense)
    torch.testing.assert_close(view.embedding, dense.sum((1, 2)) + 0.25)
    assert torch.equal(view.embedding, Compose(steps).apply(View(contributions)).embedding)


def test_roboshot_moves_the_embedding_and_leaves_heads():
    contributions = states()
    shot = RoboShot(PAIRS[:1], PAIRS[1:])
    view = Compose([ZeroAblation([(0, 0)]), shot]).apply(View(contributions))
    ablated = contributions.sum((1, 2)) + 0.25 - contributions[:, 0, 0]
    torch.testing.assert_close(view.embedding, shot.apply(ablated))
    assert torch.equal(view.heads(1, 1), contributions[:, 1, 1])


def test_prototype_is_the_mean_of_its_members():
    contributions = states()
    members = torch.arange(17) % 3 == 0
    one = PrototypeAblation([(1, 2)], members).fit(contributions)
    torch.testing.assert_close(one.apply(contributions)[4, 1, 2], contributions[members, 1, 2].mean(0))
    with pytest.raises(CorrectionError, match="one True or False for each of 17"):
        PrototypeAblation([(1, 2)], members[:-1]).fit(contributions)
    with pytest.raises(CorrectionError, match="no images"):
        PrototypeAblation([(1, 2)], members & False).fit(contributions)


def test_resampling_takes_whole_images_of_the_reference():
    reference, contributions = states(7, images=5), states()
    one = ResampleAblation([(0, 1), (2, 2)], count=7, seed=3).fit(reference)
    edited = one.apply(contributions)
    for image in range(17):
        matches = [(reference[i, 0, 1] == edited[image, 0, 1]).all().item() for i in range(5)]
        drawn = matches.index(True)
        assert torch.equal(edited[image, 2, 2], reference[drawn, 2, 2])
    assert one.transductive
    assert torch.equal(edited, ResampleAblation([(0, 1), (2, 2)], 7, 3).fit(reference).apply(contributions))


def test_precision_of_the_target_is_kept():
    fitted = every_correction()["ltc"]
    assert fitted.apply(states(dtype=torch.float32)).dtype == torch.float32
    assert fitted.apply(View(states(dtype=torch.float32))).embedding.dtype == torch.float32


# ---- saving and loading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "one",
    [
        *every_correction().values(),
        MeanAblation([(0, 1)], reference="self"),
        MeanAblation([(0, 1)]),
        ResampleAblation([(0, 1)], count=3).fit(states(7)),
        MeanAblation([(2, 1)]).fit(View(states(7, dtype=torch.float32), "model-a")),
        Compose([ZeroAblation([(1, 1)]), Compose([MeanAblation([(0, 0)]).fit(states(7))])]),
    ],
    ids=repr,
)
def test_loaded_corrections_are_the_same_bit_for_bit(one, tmp_path):
    again = load_correction(one.save(tmp_path / "kept"))
    assert type(again) is type(one) and repr(again) == repr(one)
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == ["correction.json", "correction.safetensors"]
    assert digest(again) == digest(one)
    if one.fitted:
        contributions = states(dtype=torch.float32)
        assert torch.equal(one.apply(contributions), again.apply(contributions))


def test_loaded_roboshot_is_the_same(tmp_path):
    x = normal(3, 7, EMBED)
    for number, one in enumerate((RoboShot(PAIRS), RoboShot(accept=PAIRS), RoboShot(PAIRS[:1], PAIRS))):
        again = load_correction(one.save(tmp_path / str(number)))
        assert torch.equal(one.apply(x), again.apply(x)) and repr(one) == repr(again)


def test_a_saved_correction_is_not_written_over_unasked(tmp_path):
    ZeroAblation([(0, 1)]).save(tmp_path / "a")
    with pytest.raises(OutputError, match="overwrite=True"):
        ZeroAblation([(0, 2)]).save(tmp_path / "a")
    assert load_correction(tmp_path / "a").heads == ((0, 1),)
    ZeroAblation([(0, 2)]).save(tmp_path / "a", overwrite=True)
    assert load_correction(tmp_path / "a").heads == ((0, 2),)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        ZeroAblation([(0, 1)]).save(tmp_path / "file")


def test_damaged_folders(tmp_path):
    with pytest.raises(CorrectionError, match="no saved correction"):
        load_correction(tmp_path)
    folder = MeanAblation([(0, 1), (1, 1)]).fit(states()).save(tmp_path / "a")
    text = (folder / "correction.json").read_text()
    for changed, match in (
        (text.replace("mean-ablation", "wishful"), "'wishful'"),
        (text.replace('"format": 2', '"format": 99'), "format 99"),
        (text.replace('"L1H1"', '"L1Hx"'), "values of a 'mean-ablation'.*'L1Hx' names no head"),
        (text.replace('"L0H1",', ""), "means of 1 heads"),
        (text.replace('"reference"', '"also"'), "values of a 'mean-ablation'"),
        (text[:-9], "no saved correction"),
        ("[]", "no saved correction"),
    ):
        (folder / "correction.json").write_text(changed)
        with pytest.raises(CorrectionError, match=match):
            load_correction(folder)
    (folder / "correction.json").write_text(text)
    (folder / "correction.safetensors").write_bytes(b"not tensors")
    with pytest.raises(CorrectionError, match="no saved correction"):
        load_correction(folder)


# ---- refusals -------------------------------------------------------------------------------------------------------


def test_unfitted():
    for one in (MeanAblation([(0, 1)]), PrototypeAblation([(0, 1)]), ResampleAblation([(0, 1)])):
        with pytest.raises(CorrectionError, match=r"fit\(reference\)"):
            one.apply(states())
    assert not Compose([MeanAblation([(0, 1)])]).fitted


@pytest.mark.parametrize("head", [(LAYERS, 0), (0, HEADS)])
def test_a_head_outside_the_tower(head):
    for target in (states(), View(states()), parts(states())):
        with pytest.raises(CorrectionError, match=f"no head L{head[0]}H{head[1]}"):
            MeanAblation([head]).fit(target)
        with pytest.raises(CorrectionError, match=f"no head L{head[0]}H{head[1]}"):
            ZeroAblation([head]).apply(target)


@pytest.mark.parametrize("heads", [[(0, 1), (0, 1)], [(-1, 0)], [3]])
@pytest.mark.usefixtures("without_shape_checks")
def test_unusable_heads(heads):
    with pytest.raises(CorrectionError, match=r"named twice|no head"):
        ZeroAblation(heads)


@pytest.mark.usefixtures("without_shape_checks")
def test_another_width():
    narrow = normal(0, 7, LAYERS, HEADS, 11)
    for one in (every_correction()["mean"], every_correction()["injection"]):
        with pytest.raises(CorrectionError, match=r"width 13, as the .*width 11"):
            one.apply(narrow)
        with pytest.raises(CorrectionError, match=r"width 13, as the .*width 11"):
            one.apply(View(narrow)).embedding


def test_another_model():
    fitted = MeanAblation([(0, 1)]).fit(View(states(), "model-a"))
    fitted.apply(View(states(), "model-a"))
    fitted.apply(states())
    with pytest.raises(CorrectionError, match=r"model-a.*model-b"):
        fitted.apply(View(states(), "model-b"))


@pytest.mark.parametrize("target", [None, "heads", normal(0, 7, EMBED), normal(0, 7, LAYERS, HEADS, 3, EMBED)])
def test_unusable_targets(target):
    with pytest.raises(CorrectionError, match=r"Extract head states first|Sum a per-token decomposition"):
        ZeroAblation([(0, 1)]).apply(target)


@pytest.mark.usefixtures("without_shape_checks")
def test_unusable_reference_and_settings():
    with pytest.raises(CorrectionError, match="no images"):
        MeanAblation([(0, 1)]).fit(states()[:0])
    with pytest.raises(CorrectionError, match="head L0H1 are NaN or infinite"):
        MeanAblation([(0, 1)]).fit(states() * torch.nan)
    with pytest.raises(CorrectionError, match="a count of at least one"):
        ResampleAblation([(0, 1)], count=0)
    with pytest.raises(CorrectionError, match="A str is not a correction"):
        Compose([ZeroAblation([]), "roboshot"])


def test_injecting_a_head_that_was_zeroed():
    both = Compose([ZeroAblation([(0, 1)]), KnowledgeInjection([(0, 1)], PAIRS)])
    with pytest.raises(CorrectionError, match="norm 0 at image 0"):
        both.apply(states())
