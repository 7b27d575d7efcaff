"""Injection, rejection and calibration: the golden arrays, the formulas step by step, and every refusal."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headlens.correct import RoboShot, basis_of_pairs, calibrate_classifier, inject, leading_pairs, reject
from headlens.errors import CorrectionError


@pytest.fixture
def raw(golden):
    arrays = {name: torch.from_numpy(np.asarray(a)) for name, a in golden("methods").items()}
    return arrays | {"embedding": arrays["attns"].sum((1, 2)) + arrays["mlps"].sum(1)}


def normal(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_golden_roboshot(raw):
    x, out, into = raw["embedding"], raw["reject_pairs"], raw["accept_pairs"]
    for found, name in (
        (reject(x, out), "roboshot_reject"),
        (inject(x, into), "roboshot_accept"),
        (RoboShot(reject=out).apply(x), "roboshot_reject"),
        (RoboShot(accept=into).apply(x), "roboshot_accept"),
        (RoboShot(out, into).fit(x).apply(x), "roboshot_both"),
    ):
        np.testing.assert_allclose(found.numpy(), raw[name].numpy(), atol=2e-6, err_msg=name)
        assert found.dtype == torch.float32


def test_golden_calibration(raw):
    pairs = raw["candidate_prompt_embeddings"][raw["candidate_pairs"]]
    found = calibrate_classifier(raw["classifier"].T, raw["spurious_prompt_embeddings"], pairs)
    np.testing.assert_allclose(found.T.numpy(), raw["orthocal_classifier"].numpy(), atol=2e-6)
    assert found.dtype == torch.float32


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**20), count=st.integers(1, 7))
def test_steps_are_the_published_ones(seed, count):
    x, pairs = normal(seed, 5, 11), normal(seed + 1, count, 2, 11)
    q = np.linalg.qr((pairs[:, 0] - pairs[:, 1]).numpy().T)[0]
    for move, sign in ((inject, 1.0), (reject, -1.0)):
        for row, found in zip(x.numpy(), move(x, pairs).numpy(), strict=True):
            for direction in q.T:
                row = row + sign * (row @ direction) / np.linalg.norm(row) * direction
                row = row / np.linalg.norm(row)
            np.testing.assert_allclose(found, row, atol=1e-12)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**20), scale=st.floats(0.1, 10))
def test_what_the_moves_keep(seed, scale):
    x, pairs = normal(seed, 3, 13), normal(seed + 1, 5, 2, 13)
    for move in (inject, reject):
        moved = move(x, pairs)
        torch.testing.assert_close(moved.norm(dim=1), torch.ones(3, dtype=torch.float64))
        torch.testing.assert_close(move(x, pairs * scale), moved)  # lengths of the pairs do not matter
        torch.testing.assert_close(move(x, pairs.flip(1)), moved)  # nor does which text of a pair comes first
        torch.testing.assert_close(move(x[1:2], pairs)[0], moved[1])  # nor the other images
    q = basis_of_pairs(pairs)
    torch.testing.assert_close(q @ q.T, torch.eye(5, dtype=torch.float64))
    units = x / x.norm(dim=1, keepdim=True)
    # Once x has norm one, one pair's direction leaves it altogether.
    torch.testing.assert_close(reject(units, pairs[:1]) @ basis_of_pairs(pairs[:1]).T, torch.zeros(3, 1).double())
    assert ((inject(units, pairs[:1]) @ q[0]).abs() >= (units @ q[0]).abs() - 1e-12).all()


def test_the_order_of_pairs_matters():
    x, pairs = normal(0, 7, 13), normal(1, 3, 2, 13)
    assert (inject(x, pairs) - inject(x, pairs.flip(0))).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_precision_of_the_result_is_that_of_x(dtype):
    x, pairs = normal(0, 7, 13), normal(1, 3, 2, 13)
    moved = inject(x.to(dtype), pairs.float())
    assert moved.dtype == dtype
    torch.testing.assert_close(moved.double(), inject(x, pairs), atol=8 * torch.finfo(dtype).eps, rtol=0)


def test_calibration_step_by_step_in_float64():
    classifier, spurious, pairs = normal(0, 3, 17), normal(1, 5, 17) * 7, normal(2, 4, 2, 17) * 3
    s = (spurious / spurious.norm(dim=1, keepdim=True)).numpy()
    p = (pairs / pairs.norm(dim=2, keepdim=True)).numpy()
    outside = np.eye(17) - s.T @ np.linalg.pinv(s.T)
    spread = np.mean([np.outer(a - b, a - b) for a, b in p], axis=0)
    for weight in (1000.0, 3.0):
        t = classifier.numpy() @ outside @ np.linalg.inv(weight * spread + np.eye(17))
        found = calibrate_classifier(classifier, spurious, pairs, weight=weight).numpy()
        np.testing.assert_allclose(found, t / np.linalg.norm(t, axis=1, keepdims=True), atol=1e-10)


def test_without_weight_calibration_is_the_projection():
    classifier, spurious, pairs = normal(0, 3, 17), normal(1, 5, 17), normal(2, 4, 2, 17)
    found = calibrate_classifier(classifier, spurious, pairs, weight=0.0)
    assert (found @ spurious.T).abs().max() < 1e-12
    repeated = torch.cat([spurious, spurious[:2] * 2])
    torch.testing.assert_close(calibrate_classifier(classifier, repeated, pairs, weight=0.0), found)


# ---- refusals -------------------------------------------------------------------------------------------------------


def same_direction(pairs):
    repeated = pairs.clone()
    repeated[2, 0], repeated[2, 1] = 3 * pairs[0, 0], 3 * pairs[0, 1]
    return repeated


def equal_texts(pairs):
    equal = pairs.clone()
    equal[1, 1] = equal[1, 0]
    return equal


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda p: p[:0], "at least one"),
        (lambda p: p * torch.nan, "NaN or infinite"),
        (same_direction, "pair 2 .counted from 0."),
        (equal_texts, "pair 1 .counted from 0."),
        (lambda p: torch.cat([p, p * 2]), "pair 3 .counted from 0."),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unusable_pairs(change, match, dtype):
    x, pairs = normal(0, 7, 13, dtype=dtype), normal(1, 3, 2, 13, dtype=dtype)
    for move in (inject, reject):
        with pytest.raises(CorrectionError, match=match):
            move(x, change(pairs))


def test_more_pairs_than_dimensions():
    with pytest.raises(CorrectionError, match=r"7 pairs .* 5 numbers"):
        inject(normal(0, 7, 5), normal(1, 7, 2, 5))


def test_vectors_without_a_direction():
    x, pairs = normal(0, 7, 13), normal(1, 3, 2, 13)
    x[5] = 0
    with pytest.raises(CorrectionError, match="norm 0 at image 5"):
        inject(x, pairs)
    x[5] = torch.nan
    with pytest.raises(CorrectionError, match="norm nan at image 5"):
        inject(x, pairs)


def test_nothing_left_to_turn():
    pairs = normal(1, 1, 2, 13)
    x = pairs[0, :1] - pairs[0, 1:]
    with pytest.raises(CorrectionError, match="span the whole vector"):
        reject(x / x.norm(), pairs)


@pytest.mark.usefixtures("without_shape_checks")
def test_widths_that_disagree():
    with pytest.raises(CorrectionError, match="one width"):
        inject(normal(0, 7, 11), normal(1, 3, 2, 13))
    with pytest.raises(CorrectionError, match=r"pairs of \[pair 2 embed\]"):
        inject(normal(0, 7, 13), normal(1, 3, 3, 13))
    with pytest.raises(CorrectionError, match="width 11"):
        calibrate_classifier(normal(0, 2, 11), normal(1, 3, 13), normal(2, 3, 2, 11))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((normal(0, 2, 11), normal(1, 0, 11), normal(2, 3, 2, 11)), "at least one of each"),
        ((normal(0, 2, 11), normal(1, 3, 11), normal(2, 0, 2, 11)), "at least one of each"),
        ((normal(0, 2, 11), normal(1, 3, 11), normal(2, 3, 2, 11), -1.0), "a weight of zero or more"),
        ((normal(0, 2, 11), 0 * normal(1, 3, 11), normal(2, 3, 2, 11)), "finite prompts"),
        ((normal(0, 2, 11) * torch.nan, normal(1, 3, 11), normal(2, 3, 2, 11)), "finite classifier"),
        ((normal(0, 2, 11), normal(1, 11, 11), normal(2, 3, 2, 11)), "outside the span"),
    ],
)
def test_uncalibratable_input(arguments, match):
    with pytest.raises(CorrectionError, match=match):
        calibrate_classifier(*arguments)


def test_roboshot_needs_pairs_and_whole_embeddings():
    with pytest.raises(CorrectionError, match="no pairs to reject or to accept"):
        RoboShot()
    with pytest.raises(CorrectionError, match=r"Tensor of \(5, 2, 3, 13\)"):
        RoboShot(normal(0, 2, 2, 13)).apply(normal(1, 5, 2, 3, 13))


def test_injecting_a_whole_space_changes_no_direction():
    x, pairs = normal(0, 5, 7), normal(1, 7, 2, 7)
    found = inject(x, pairs)
    np.testing.assert_allclose(found, torch.nn.functional.normalize(inject(found, pairs), dim=1), atol=1e-12)
    unit = torch.nn.functional.normalize(x, dim=1)
    np.testing.assert_allclose(inject(unit, pairs), unit, atol=1e-12)


def test_leading_pairs_are_the_directions_of_more_than_average_difference():
    """Nineteen texts differ by 5, 3 and 2 along three known directions of eleven, and hardly along the others."""
    axes = torch.linalg.qr(normal(2, 11, 11))[0]
    spread = torch.tensor([5.0, 3.0, 2.0, *[0.1] * 8], dtype=torch.float64)
    weights = torch.linalg.qr(normal(3, 19, 12) - normal(3, 19, 12).mean(0))[0][:, :11] * spread
    texts = (weights - weights.mean(0)) @ axes.T + normal(4, 11)
    found = leading_pairs(texts)
    assert found.shape == (3, 2, 11) and not found[:, 1].any()
    np.testing.assert_allclose((found[:, 0] @ axes[:, :3]).abs(), torch.eye(3), atol=0.05)
    np.testing.assert_allclose(basis_of_pairs(found).abs(), found[:, 0].abs(), atol=1e-12)
    shuffled = leading_pairs(texts[torch.randperm(19, generator=torch.Generator().manual_seed(0))])
    np.testing.assert_allclose(shuffled[:, 0].abs(), found[:, 0].abs(), atol=1e-9)
    with pytest.raises(CorrectionError, match="in all directions alike"):
        leading_pairs(torch.ones(3, 5))
