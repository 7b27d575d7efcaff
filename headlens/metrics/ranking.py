"""Skew of a ranking: which values of an attribute crowd its top.

Follows Geyik et al. 2019 (arXiv 1905.01989), with s_g(k) the share of value g among the k highest scored images and
d_g its desired share:

    Skew_g@k = ln(s_g(k) / d_g)        MaxSkew@k = max_g Skew_g@k
    NDKL = (1/Z) Σ_i KL(s(i) ‖ d) / log2(i + 1),   Z = Σ_i 1 / log2(i + 1)

Parameters that published numbers depend on: the desired share ("uniform" over the values that occur, as Yeo et al.
2025 use on FairFace; "data", the data set's own shares, as in their retrieval skew; or given shares), k, and what
stands for a share of zero. Equal scores are ranked in the order of the images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from torch import Tensor

from headlens.errors import MetricError
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
        raise MetricError("zero rule 'one_over_k' or 'infinite'", repr(zero), "Choose one of these.")
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
            "scores of [image concept], a row for each attribute value",
            f"shape {array.shape} for {len(codes)} images",
            "Pass embeddings @ concepts.T over the same images.",
        )
    if not np.isfinite(array).all():
        raise MetricError("finite scores", f"{int((~np.isfinite(array)).sum())} that are not", "Check the embeddings.")
    if k is not None and not 1 <= k <= len(codes):
        raise MetricError(f"k from 1 to {len(codes)}, the number of images", str(k), "Change k.")
    values: list[Any] = found.tolist()
    if isinstance(target, Mapping):
        missing = [v for v in values if v not in target]
        if missing or min(target.values()) <= 0:
            received = f"none for {missing[0]!r}" if missing else f"{min(target.values())}"
            raise MetricError("a positive desired share for every value", received, f"Give shares for {values}.")
        values += [v for v in target if v not in values]
        desired = np.asarray([target[v] for v in values], dtype=float)
    elif target == "uniform":
        desired = np.ones(len(values))
    elif target == "data":
        desired = np.bincount(codes).astype(float)
    else:
        raise MetricError("target 'uniform', 'data' or a mapping", repr(target), "Choose one of these.")
    if len(values) < 2:
        raise MetricError("two attribute values or more", f"{values}", "Skew compares values; name others in target=.")
    return np.argsort(-array, axis=0, kind="stable"), codes, values, desired / desired.sum()
