"""fairlearn's disparities for one predicted class against the rest."""

from __future__ import annotations

from typing import Any

from fairlearn import metrics as fairlearn_metrics

from headlens.errors import MetricError
from headlens.metrics.columns import Column, as_columns


def demographic_parity_difference(predictions: Column, attribute: Column, positive: Any) -> float:
    """The largest difference, over values of the attribute, in how often class `positive` is predicted.

    Raises:
        MetricError: for columns that do not match.
    """
    predicted, values = as_columns(predictions=predictions, attribute=attribute)
    chosen = (predicted == positive).astype(int)
    difference = fairlearn_metrics.demographic_parity_difference(chosen, chosen, sensitive_features=values)
    return float(difference)


def equalized_odds_difference(predictions: Column, labels: Column, attribute: Column, positive: Any) -> float:
    """The larger of the differences in true and in false positive rates, over values of the attribute.

    Raises:
        MetricError: for columns that do not match, and where some value has no image of class `positive`, or none of
            another class, so that a rate is not determined.
    """
    predicted, true, values = as_columns(predictions=predictions, labels=labels, attribute=attribute)
    actual = (true == positive).astype(int)
    for value in dict.fromkeys(values.tolist()):
        if len(set(actual[values == value].tolist())) < 2:
            raise MetricError(
                f"images of class {positive!r} and of others for every value of the attribute",
                f"only one kind for {value!r}",
                "Leave the value out, or use demographic_parity_difference.",
            )
    chosen = (predicted == positive).astype(int)
    return float(fairlearn_metrics.equalized_odds_difference(actual, chosen, sensitive_features=values))
