"""A small version of benchmarks/calibration.py: claims under nulls, power, recall, coverage. Bounds are wide."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

spec = importlib.util.spec_from_file_location("calibration", Path(__file__).parents[1] / "benchmarks/calibration.py")
assert spec is not None and spec.loader is not None
calibration = importlib.util.module_from_spec(spec)
sys.modules["calibration"] = calibration
spec.loader.exec_module(calibration)


def answers(finder: str, null: str, seeds: range) -> tuple[int, int]:
    """How often the answer is supported, and focal."""
    supported = focal = 0
    for seed in seeds:
        generator = np.random.default_rng([seed, 7])
        world = calibration.World(generator, (4, 8), 2)
        seen, test = (world.sample(generator, n, rho).under(null, generator) for n, rho in ((1200, 0.75), (400, 0.5)))
        found = calibration.verdicts_of(seen, test, (4, 8), seed)[finder]
        supported, focal = supported + (found.correction == "supported"), focal + (found.fairness == "focal")
    return supported, focal


@pytest.mark.parametrize("null", calibration.NULLS)
def test_no_claim_is_made_of_an_attribute_that_means_nothing(null: str) -> None:
    assert max(answers("contrastive", null, range(8))) <= 2


def test_a_planted_attribute_is_found() -> None:
    assert min(answers("calibrated", "", range(4))) >= 3


def test_random_sets_rarely_pass_the_control() -> None:
    assert all(row["passed"] <= 2 + row["runs"] // 5 for row in calibration.controls(range(2), "4 × 8"))


def test_the_calibrated_locator_names_what_was_planted() -> None:
    rows = [row for row in calibration.locators(range(2), "4 × 8") if row["locator"] == "calibrated"]
    for row in rows:
        if "planted" in row["world"] and row["world"] != "nothing planted":
            assert row["recall"] >= 0.9 and row["precision"] >= 0.7
        else:
            assert row["any"] <= 0.5


def test_intervals_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, draws = np.random.default_rng([0, 3]), 200
    parts = (calibration._of_groups, calibration._of_gains, calibration._of_v)
    rows = [row for part in parts for row in part(generator, draws)]
    # D is resampled in each data set, which takes long: the small ones alone, whose intervals are the hardest.
    monkeypatch.setattr(calibration, "IMAGES", (10, 30))
    for row in (*rows, *calibration._of_d(generator, draws)):
        assert row["coverage"] >= 0.86 and (row["ratio"] or 0) <= 1.6, row
