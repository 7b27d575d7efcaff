"""How strongly an attribute and the predicted class go together.

    V = sqrt(χ² / (n · min(rows − 1, columns − 1)))          (Cramér 1946)

and its form corrected for the value that chance alone gives, after Bergsma 2013, *A bias-correction for Cramér's V and
Tschuprow's T*: with φ² = χ²/n, r rows and c columns,

    φ̃² = max(0, φ² − (r − 1)(c − 1)/(n − 1)),  r̃ = r − (r − 1)²/(n − 1),  c̃ = c − (c − 1)²/(n − 1)
    Ṽ = sqrt(φ̃² / min(r̃ − 1, c̃ − 1))
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency
from scipy.stats.contingency import association

from headlens.errors import MetricError
from headlens.metrics.columns import Column, as_columns


def cramers_v(attribute: Column, predictions: Column, corrected: bool = False) -> float:
    """Cramér's V of attribute × predicted class, from 0 (independent) to 1 (one tells the other).

    Where a single class is predicted for every image, nothing goes together with anything: 0, by convention.

    Args:
        attribute: the attribute's value of each image.
        predictions: the predicted class of each image.
        corrected: Bergsma's form, which is near 0 for independent columns however small the data.

    Raises:
        MetricError: for columns of different lengths or with missing values, and for an attribute with one value.

    Limits: V has no sign and does not say which value fares worse; uncorrected, it grows as the data shrink.
    """
    values, predicted = as_columns(attribute=attribute, predictions=predictions)
    rows, row_names = pd.factorize(values)
    columns, column_names = pd.factorize(predicted)
    if len(row_names) < 2:
        raise MetricError("two attribute values or more", f"{row_names[0]!r} alone", "Check the attribute's column.")
    if len(column_names) < 2:
        return 0.0
    cells = rows * len(column_names) + columns
    table = np.bincount(cells, minlength=len(row_names) * len(column_names)).reshape(len(row_names), -1)
    if not corrected:
        return float(association(table, method="cramer", correction=False))
    n, (r, c) = table.sum(), table.shape
    phi2 = chi2_contingency(table, correction=False).statistic / n
    phi2 = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    smaller = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    # Every image in a row or column of its own: the correction takes all there is.
    return float((phi2 / smaller) ** 0.5) if smaller > 0 else 0.0
