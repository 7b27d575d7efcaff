"""Retrieval: which values of an attribute crowd the top of a ranking, and whether what was asked for is found.

- Retrieval skew@k: Skew_g@k of `headlens.metrics.ranking`, averaged over queries, with a bootstrap over images.
- Recall@k: over queries, the share of the relevant images that are among the k highest scored, or whether any is.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor

from headlens.errors import MetricError
from headlens.metrics.bootstrap import Interval, check_level, interval
from headlens.metrics.columns import Column, as_array
from headlens.metrics.groups import SMALL
from headlens.metrics.measures import Measures
from headlens.metrics.ranking import Scores, Target, ranked_values

_Array = np.ndarray


def retrieval_skew(
    method: str,
    scores: Scores,
    attribute: Column,
    k: int,
    target: Target = "data",
    *,
    baseline: Scores | None = None,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Measures:
    """Skew_g@k = ln(share of g in the top k / desired share), the mean over queries, for every value g of an attribute.

    A share of zero counts as 1/k. With a target of "data", a resample's own shares are its desired shares.

    Args:
        method: the name to report under.
        scores: the score of each image for each query, [image query], or for one, [image].
        attribute: the attribute's value of each image.
        k: how many of the highest scores are looked at.
        target: the desired shares; see `headlens.metrics.skew`.
        baseline: the scores of the method that this one is compared with, over the same images and queries.
        draws: resamples of the images.
        level: the intervals' level.
        seed: the same seed gives the same intervals.

    Returns:
        Measures "skew.<value>", and "max", the mean over queries of the largest. `sizes` count each value's images.

    Raises:
        MetricError: as `skew`, for scores of another shape in `baseline`, fewer than two draws, or a level outside
            (0, 1).

    Limits: in a resample an image can be in the top k more than once, so that a resample's top k is a little less
    varied than a data set's.
    """
    check_level(level)
    _check_draws(draws)
    ranked, codes, values, desired = ranked_values(scores, attribute, k, target)
    rankings = [ranked]
    if baseline is not None:
        rankings.insert(0, ranked_values(baseline, attribute, k, target)[0])
        _check_shapes(rankings[0].shape, ranked.shape)
    names = [f"skew.{value}" for value in values] + ["max"]
    one_hot = codes[:, None] == np.arange(len(values))
    # The first k images of a resample lie among the first few k of the ranking, or else all of it is looked at.
    depth = min(len(codes), 3 * k + 50)
    fronts = [one_hot[order[:depth]] for order in rankings]
    own_shares = isinstance(target, str) and target == "data"

    def measured(weights: _Array) -> _Array:
        goal = np.bincount(codes, weights, len(values)) / weights.sum() if own_shares else desired
        rows = []
        for order, front in zip(rankings, fronts, strict=True):
            inside = _counted(weights[order[:depth]], k)
            if (inside.sum(axis=0) < k).any():
                inside, front = _counted(weights[order], k), one_hot[order]
            share = np.einsum("rq,rqv->qv", inside, front) / k
            there = goal > 0  # a value that a resample lacks has no skew in it
            logs = np.full(share.shape, np.nan)
            logs[:, there] = np.log(np.where(share == 0, 1 / k, share)[:, there] / goal[there])
            rows.append(np.append(logs.mean(axis=0), logs[:, there].max(axis=1).mean()))
        return np.stack(rows)

    observed = measured(np.ones(len(codes), dtype=np.int64))
    generator = np.random.default_rng(seed)
    uniform = np.full(len(codes), 1 / len(codes))
    drawn = np.stack([measured(generator.multinomial(len(codes), uniform)) for _ in range(draws)])
    sizes = {str(value): int((codes == i).sum()) for i, value in enumerate(values)}
    return _measures(method, names, observed, drawn, sizes, level, draws)


def retrieval_recall(
    method: str,
    scores: Scores,
    relevant: Column | Tensor | _Array,
    k: int,
    *,
    found: Literal["share", "any"] = "share",
    baseline: Scores | None = None,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Measures:
    """Recall@k, the mean over queries of |relevant among the k highest scored| / |relevant|, or of whether any is.

    Args:
        method: the name to report under.
        scores: the score of each image for each query, [image query].
        relevant: which images each query asks for, as truth values of [image query], or for each image the number of
            its query, [image].
        k: how many of the highest scores are looked at.
        found: "share", or "any" for whether at least one relevant image is there. They agree where every query has one
            image.
        baseline: the scores of the method that this one is compared with, over the same images and queries.
        draws: resamples of the queries.
        level: the intervals' level.
        seed: the same seed gives the same intervals.

    Returns:
        One measure, "recall@k" with its k. `sizes` count the queries.

    Raises:
        MetricError: for scores that are not finite or of other shapes, a query without a relevant image, a k outside
            1 … images, another `found`, fewer than two draws, or a level outside (0, 1).

    Limits: the interval speaks of other queries on the same images. Under "share", a query with more than k relevant
    images cannot reach 1.
    """
    check_level(level)
    _check_draws(draws)
    if found not in ("share", "any"):
        raise MetricError("found 'share' or 'any'", repr(found), "Choose one of these.")
    given = [_matrix(one) for one in ([] if baseline is None else [baseline]) + [scores]]
    _check_shapes(given[0].shape, given[-1].shape)
    images, queries = given[-1].shape
    if not 1 <= k <= images:
        raise MetricError(f"k from 1 to {images}, the number of images", str(k), "Change k.")
    asked = _relevant(relevant, images, queries)
    hits = []
    for array in given:
        top = np.argsort(-array, axis=0, kind="stable")[:k]
        inside = np.take_along_axis(asked, top, axis=0).sum(axis=0)
        hits.append(inside / asked.sum(axis=0) if found == "share" else (inside > 0).astype(float))
    each = np.stack(hits)
    picks = np.random.default_rng(seed).integers(queries, size=(draws, queries))
    drawn = each[:, picks].mean(-1).T[..., None]
    return _measures(method, [f"recall@{k}"], each.mean(1)[:, None], drawn, {"queries": queries}, level, draws)


def _counted(weights: _Array, k: int) -> _Array:
    """How often each image, in ranked order, is among the first k of a resample that has it `weights` times."""
    before = weights.cumsum(axis=0) - weights
    return np.clip(k - before, 0, weights)


def _measures(
    method: str, names: list[str], observed: _Array, drawn: _Array, sizes: dict[str, int], level: float, draws: int
) -> Measures:
    """From [model measure] and [draw model measure], a baseline first where there is one."""
    changes: dict[str, float] = {}
    change_intervals: dict[str, Interval] = {}
    if len(observed) > 1:
        changes = {name: float(v) for name, v in zip(names, observed[1] - observed[0], strict=True)}
        change_intervals = {name: interval(drawn[:, 1, i] - drawn[:, 0, i], level) for i, name in enumerate(names)}
    return Measures(
        method=method,
        values={name: float(v) for name, v in zip(names, observed[-1], strict=True)},
        interval={name: interval(drawn[:, -1, i], level) for i, name in enumerate(names)},
        difference=changes,
        difference_interval=change_intervals,
        sizes=sizes,
        small=tuple(name for name, size in sizes.items() if size < SMALL),
        level=level,
        draws=draws,
    )


def _matrix(scores: Scores) -> _Array:
    array = scores.detach().cpu().numpy() if isinstance(scores, Tensor) else np.asarray(scores)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise MetricError(
            "finite scores of [image query]", f"shape {array.shape}", "Pass embeddings @ queries.T over the images."
        )
    return array


def _relevant(relevant: Column | Tensor | _Array, images: int, queries: int) -> _Array:
    array = relevant.detach().cpu().numpy() if isinstance(relevant, Tensor) else np.asarray(relevant)
    if array.ndim == 1:
        array = as_array(relevant, "relevant")[:, None] == np.arange(queries)
    if array.shape != (images, queries) or array.dtype != bool:
        raise MetricError(
            f"truth values of [{images} {queries}], or {images} numbers of queries",
            f"{array.dtype} of shape {array.shape}",
            "Say for each image which queries ask for it.",
        )
    empty = np.flatnonzero(~array.any(axis=0))
    if len(empty):
        raise MetricError("an image that each query asks for", f"none for query {empty[0]}", "Leave the query out.")
    return array


def _check_shapes(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    if first != second:
        raise MetricError("a baseline of the same images and queries", f"{first} and {second}", "Use the same rows.")


def _check_draws(draws: int) -> None:
    if draws < 2:
        raise MetricError("two draws or more", str(draws), "Pass draws=1000, for example.")
