"""Rankings: which values of an attribute fill the top, and whether what was asked for is found.

Skew follows Geyik et al. 2019 (arXiv 1905.01989), with s_g(k) the share of value g among the k highest scored images
and d_g its desired share:

    Skew_g@k = ln(s_g(k) / d_g)        MaxSkew@k = max_g Skew_g@k
    NDKL = (1/Z) Σ_i KL(s(i) ‖ d) / log2(i + 1),   Z = Σ_i 1 / log2(i + 1)

Parameters that published numbers depend on: the desired share ("uniform" over the values that occur, as Yeo et al.
2025 use on FairFace; "data", the data set's own shares, as in their retrieval skew; or given shares), k, and what
stands for a share of zero. Equal scores are ranked in the order of the images.

Retrieval skew@k is Skew_g@k averaged over queries; recall@k is, over queries, the share of the relevant images that are
among the k highest scored, or whether any is. Both come with a bootstrap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from torch import Tensor

from headlens.errors import MetricError
from headlens.metrics.bootstrap import STANDARD, Bootstrap, Interval, Measures, small
from headlens.metrics.clusters import Clusters
from headlens.metrics.columns import Column, as_array

Target = Literal["uniform", "data"] | Mapping[Any, float | int]
Scores: TypeAlias = Tensor | np.ndarray | Sequence[Any] | pd.Series | pd.DataFrame
_Array: TypeAlias = np.ndarray


def skew(
    scores: Scores,
    attribute: Column,
    k: int,
    target: Target = "data",
    zero: Literal["one_over_k", "infinite"] = "one_over_k",
) -> pd.Series:
    """Skew_g@k of every value g of the attribute: above zero where g is over-represented among the top k.

    Args:
        scores: the score of each image, [image].
        attribute: the attribute's value of each image.
        k: how many of the highest scores are looked at.
        target: the desired shares; a mapping may name values that do not occur; its shares are divided by their sum.
        zero: where none of the top k has value g, "one_over_k" counts 1/k in place of 0, "infinite" gives −inf.

    Raises:
        MetricError: for scores that are not finite or not one an image, a k outside 1 … images, an attribute with
            one value, or a target without a positive share for every value.
    """
    return _table(scores, attribute, k, target, zero).iloc[:, 0]


def max_skew(scores: Scores, attribute: Column, k: int, target: Target = "uniform") -> float:
    """MaxSkew@k, averaged over concepts: 0 where the top k hold exactly the desired shares, larger with skew.

    Args:
        scores: the score of each image for each concept, [image concept], or for one, [image].
        attribute: the attribute's value of each image.
        k: how many of the highest scores are looked at.
        target: the desired shares; see `skew`.

    The rule for a share of zero does not matter here: some value has at least its desired share, so the largest skew
    is never below zero. Raises as `skew` does.
    """
    return float(_table(scores, attribute, k, target, "infinite").max(axis=0).mean())


def ndkl(scores: Scores, attribute: Column, k: int | None = None, target: Target = "data") -> float:
    """Normalised discounted cumulative KL divergence of the ranking's first k (all, by default), over concepts' mean.

    0 where every prefix holds the desired shares; not bounded by 1. The first few ranks always diverge, since one
    image cannot hold several shares. Raises as `skew` does.
    """
    rows, codes, values, desired = ranked_values(scores, attribute, k, target)
    depth = len(codes) if k is None else k
    weight = 1 / np.log2(np.arange(2, depth + 2))
    total = 0.0
    for ranked in rows.T:
        one_hot = codes[ranked[:depth], None] == np.arange(len(values))
        share = one_hot.cumsum(0) / np.arange(1, depth + 1)[:, None]
        ratio = np.where(share > 0, share / desired, 1.0)
        total += float((weight * (share * np.log(ratio)).sum(1)).sum() / weight.sum())
    return total / rows.shape[1]


def _table(scores: Scores, attribute: Column, k: int, target: Target, zero: str) -> pd.DataFrame:
    ranked, codes, values, desired = ranked_values(scores, attribute, k, target)
    top = codes[ranked[:k]]
    share = (top[..., None] == np.arange(len(values))).mean(axis=0)
    if zero == "one_over_k":
        share = np.where(share == 0, 1 / k, share)
    elif zero != "infinite":
        raise MetricError(f"A zero rule {zero!r} is not known.", "Choose 'one_over_k' or 'infinite'.")
    with np.errstate(divide="ignore"):
        logs = np.log(share / desired)
    return pd.DataFrame(logs.T, index=pd.Index(values, name="value"))


def ranked_values(
    scores: Scores, attribute: Column, k: int | None, target: Target
) -> tuple[_Array, _Array, list[Any], _Array]:
    """Images by descending score [rank concept], value codes of the images, the values, their desired shares."""
    array = scores.detach().cpu().numpy() if isinstance(scores, Tensor) else np.asarray(scores)
    array = array[:, None] if array.ndim == 1 else array
    codes, found = pd.factorize(as_array(attribute, "attribute"), sort=True)
    if array.ndim != 2 or array.shape[0] != len(codes) or not array.size:
        raise MetricError(
            f"Scores of shape {array.shape} are not [image concept] for {len(codes)} attribute values.",
            "Pass embeddings @ concepts.T over the same images.",
        )
    if not np.isfinite(array).all():
        raise MetricError(f"{int((~np.isfinite(array)).sum())} scores are not finite.", "Check the embeddings.")
    if k is not None and not 1 <= k <= len(codes):
        raise MetricError(f"k is {k}, and there are {len(codes)} images.", "Choose k from 1 to the number of images.")
    values: list[Any] = found.tolist()
    if isinstance(target, Mapping):
        missing = [v for v in values if v not in target]
        if missing or min(target.values()) <= 0:
            what = f"Value {missing[0]!r} has no desired share" if missing else "A desired share is not positive"
            raise MetricError(f"{what}.", f"Give positive shares for {values}.")
        values += [v for v in target if v not in values]
        desired = np.asarray([target[v] for v in values], dtype=float)
    elif target == "uniform":
        desired = np.ones(len(values))
    elif target == "data":
        desired = np.bincount(codes).astype(float)
    else:
        raise MetricError(f"A target {target!r} is not known.", "Choose 'uniform', 'data' or a mapping.")
    if len(values) < 2:
        raise MetricError(f"The attribute has only {values}.", "Skew compares values; name others in target=.")
    return np.argsort(-array, axis=0, kind="stable"), codes, values, desired / desired.sum()


def retrieval_skew(
    scores: Scores,
    attribute: Column,
    k: int,
    target: Target = "data",
    *,
    method: str = "",
    baseline: Scores | None = None,
    cluster: Column | None = None,
    bootstrap: Bootstrap = STANDARD,
) -> Measures:
    """Skew_g@k = ln(share of g in the top k / desired share), the mean over queries, for every value g of an attribute.

    A share of zero counts as 1/k. With a target of "data", a resample's own shares are its desired shares.

    Args:
        scores: the score of each image for each query, [image query], or for one, [image].
        attribute: the attribute's value of each image.
        k: how many of the highest scores are looked at.
        target: the desired shares; see `headlens.metrics.skew`.
        method: the name to report under.
        baseline: the scores of the method that this one is compared with, over the same images and queries.
        cluster: the person or scene that each image shows, where several show the same.
        bootstrap: resamples of the images.

    Returns:
        Measures "skew.<value>", and "max", the mean over queries of the largest. `sizes` count each value's images.

    Raises:
        MetricError: as `skew`, and for scores of another shape in `baseline`.

    Limits: in a resample an image can be in the top k more than once, so that a resample's top k is a little less
    varied than a data set's.
    """
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
    resamples = bootstrap.images(len(codes), Clusters.beside(cluster, attribute=attribute))
    drawn = np.stack([measured(weights) for weights in resamples])
    sizes = {str(value): int((codes == i).sum()) for i, value in enumerate(values)}
    return _measures(method, names, observed, drawn, sizes, bootstrap)


def retrieval_recall(
    scores: Scores,
    relevant: Column | Tensor | _Array,
    k: int,
    *,
    method: str = "",
    found: Literal["share", "any"] = "share",
    baseline: Scores | None = None,
    cluster: Column | None = None,
    bootstrap: Bootstrap = STANDARD,
) -> Measures:
    """Recall@k, the mean over queries of |relevant among the k highest scored| / |relevant|, or of whether any is.

    Args:
        scores: the score of each image for each query, [image query].
        relevant: which images each query asks for, as truth values of [image query], or for each image the number of
            its query, [image].
        k: how many of the highest scores are looked at.
        method: the name to report under.
        found: "share", or "any" for whether at least one relevant image is there. They agree where every query has one
            image.
        baseline: the scores of the method that this one is compared with, over the same images and queries.
        cluster: which queries belong together, such as the images of one person that are each a query.
        bootstrap: resamples of the queries.

    Returns:
        One measure, "recall@k" with its k. `sizes` count the queries.

    Raises:
        MetricError: for scores that are not finite or of other shapes, a query without a relevant image, a k outside
            1 … images, or another `found`.

    Limits: the interval is about other queries on the same images. Under "share", a query with more than k relevant
    images cannot reach 1.
    """
    if found not in ("share", "any"):
        raise MetricError(f"A recall by {found!r} is not known.", "Choose 'share' or 'any'.")
    given = [_matrix(one) for one in ([] if baseline is None else [baseline]) + [scores]]
    _check_shapes(given[0].shape, given[-1].shape)
    images, queries = given[-1].shape
    if not 1 <= k <= images:
        raise MetricError(f"k is {k}, and there are {images} images.", "Choose k from 1 to the number of images.")
    asked = _relevant(relevant, images, queries)
    recalls = []
    for array in given:
        top = np.argsort(-array, axis=0, kind="stable")[:k]
        inside = np.take_along_axis(asked, top, axis=0).sum(axis=0)
        recalls.append(inside / asked.sum(axis=0) if found == "share" else (inside > 0).astype(float))
    each = np.stack(recalls)
    resamples = bootstrap.images(queries, Clusters.beside(cluster, queries=np.arange(queries)))
    drawn = np.stack([each @ weights / weights.sum() for weights in resamples])[..., None]
    return _measures(method, [f"recall@{k}"], each.mean(1)[:, None], drawn, {"queries": queries}, bootstrap)


def _counted(weights: _Array, k: int) -> _Array:
    """How often each image, in ranked order, is among the first k of a resample that has it `weights` times."""
    before = weights.cumsum(axis=0) - weights
    return np.clip(k - before, 0, weights)


def _measures(
    method: str, names: list[str], observed: _Array, drawn: _Array, sizes: dict[str, int], bootstrap: Bootstrap
) -> Measures:
    """From [model measure] and [draw model measure], a baseline first where there is one."""
    changes: dict[str, float] = {}
    change_intervals: dict[str, Interval] = {}
    if len(observed) > 1:
        changes = {name: float(v) for name, v in zip(names, observed[1] - observed[0], strict=True)}
        change_intervals = {name: bootstrap.interval(drawn[:, 1, i] - drawn[:, 0, i]) for i, name in enumerate(names)}
    return Measures(
        method=method,
        values={name: float(v) for name, v in zip(names, observed[-1], strict=True)},
        interval={name: bootstrap.interval(drawn[:, -1, i]) for i, name in enumerate(names)},
        difference=changes,
        difference_interval=change_intervals,
        sizes=sizes,
        small=small(sizes),
        level=bootstrap.level,
        n_bootstrap=bootstrap.n_bootstrap,
    )


def _matrix(scores: Scores) -> _Array:
    array = scores.detach().cpu().numpy() if isinstance(scores, Tensor) else np.asarray(scores)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise MetricError(
            f"Scores of shape {array.shape} are not finite numbers of [image query].",
            "Pass embeddings @ queries.T over the images.",
        )
    return array


def _relevant(relevant: Column | Tensor | _Array, images: int, queries: int) -> _Array:
    array = relevant.detach().cpu().numpy() if isinstance(relevant, Tensor) else np.asarray(relevant)
    if array.ndim == 1:
        array = as_array(relevant, "relevant")[:, None] == np.arange(queries)
    if array.shape != (images, queries) or array.dtype != bool:
        raise MetricError(
            f"`relevant` ({array.dtype} of shape {array.shape}) is not truth values of [{images} {queries}], or "
            f"{images} numbers of queries.",
            "Give for each image the queries that ask for it.",
        )
    empty = np.flatnonzero(~array.any(axis=0))
    if len(empty):
        raise MetricError(f"Query {empty[0]} asks for no image.", "Leave the query out.")
    return array


def _check_shapes(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    if first != second:
        raise MetricError(
            f"Baseline and scores differ in shape: {first} and {second}.", "Use the same images and queries."
        )
