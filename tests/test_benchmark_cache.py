"""A benchmark that was stopped and is asked again: what is read back, and what decides that."""

from copy import copy
from dataclasses import replace

import pytest
from benchmark_trees import small_testbed

import headlens as hl
from headlens import benchmark
from headlens.benchmark.cache import Cache
from headlens.correct import Compose, ErmProbe, MeanAblation


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tmp_path_factory.mktemp("birds")


@pytest.fixture(scope="module")
def asked(world):
    return replace(small_testbed(world), extras=())


@pytest.fixture(scope="module")
def done(world, asked):
    return benchmark.run(
        asked,
        hl.load("testbed"),
        world / "images",
        world / "acts.zarr",
        methods=["ablation"],
        n_random_sets=2,
        n_bootstrap=50,
    )


def test_what_was_fitted_and_drawn_before_an_interruption_is_not_computed_again(asked, world, tmp_path, monkeypatch):
    """A run stops in the middle of its random heads; the next one takes up the rest, and finds the same numbers."""
    place, clip = world / "acts.zarr", hl.load("testbed")
    methods = ["ltc", "erm probe", "prototype ablation"]

    def run(**options):
        return benchmark.run(
            asked, clip, world / "images", place, methods=methods, n_random_sets=7, n_bootstrap=20, **options
        )[0]

    whole = run()
    predict, calls = Cache.predictions, []

    def stops(kept, correction, now):
        calls.append(correction)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return predict(kept, correction, now)

    monkeypatch.setattr(Cache, "predictions", stops)
    with pytest.raises(KeyboardInterrupt):
        run(cache=tmp_path)
    assert len(list((tmp_path / "predictions").iterdir())) == 4
    again = []
    monkeypatch.setattr(
        Cache, "predictions", lambda kept, one, now: predict(kept, one, lambda: again.append(one) or now())
    )
    monkeypatch.setattr(ErmProbe, "fit", lambda *a: pytest.fail("trained again"))
    assert run(cache=tmp_path) == whole
    # Of 21 sets: 7 for the salient heads; 7 of pooled layers and 7 of the layer itself for the spurious one, 2 of them
    # in both.
    assert len(again) == 19 - 4
    # What a killed run left half written is computed again.
    monkeypatch.undo()
    for file in (tmp_path / "predictions").iterdir():
        file.write_bytes(file.read_bytes()[:-3])
    for file in (tmp_path / "fitted").glob("*/correction.json"):
        file.write_text("{")
    assert run(cache=tmp_path) == whole


def test_what_decides_a_result_decides_where_it_is_kept(done, tmp_path):
    _, audit = done
    kept = Cache(audit.data, tmp_path)
    one = MeanAblation([(3, 0)])
    place = kept._place("fitted", one)
    assert place == Cache(audit.data, tmp_path)._place("fitted", MeanAblation([(3, 0)]))
    assert place != kept._place("fitted", MeanAblation([(3, 1)]))
    assert place != kept._place("fitted", MeanAblation([(3, 0)], reference="self"))
    other = copy(audit.data)
    vars(other)["labels"] = 1 - audit.data.labels
    assert place != Cache(other, tmp_path)._place("fitted", one)

    class Mine(MeanAblation):
        pass

    assert kept._place("fitted", Compose([Mine([(3, 0)])])) is None  # its code may change
