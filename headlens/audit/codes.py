"""From the attribute's column of a manifest to indices."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Int

from headlens.errors import ManifestError
from headlens.manifest import as_text
from headlens.prompts import Attribute


def value_codes(column: pd.Series, attribute: Attribute, missing: bool = False) -> Int[np.ndarray, "image"]:
    """The index of each image's value among the attribute's; −1 for one that is missing or not among them.

    Args:
        column: the manifest's column.
        attribute: the attribute.
        missing: whether images without a value may be there.

    Raises:
        ManifestError: for a value that the attribute does not have, where `missing` is not set.
    """
    names = attribute.value_names
    written = as_text(column)
    unknown = sorted({str(name) for name in written[~written.isin(names)]})
    if unknown and not missing:
        raise ManifestError(
            f"every {attribute.name} among {', '.join(names)}",
            f"{', '.join(map(repr, unknown[:5]))}{' and more' if len(unknown) > 5 else ''}",
            f"Correct the manifest's column {attribute.name!r}, give these values prompts too, or leave their images "
            "out (skip_unlabelled=True; --skip-unlabelled in the shell).",
        )
    return written.map({name: i for i, name in enumerate(names)}).fillna(-1).to_numpy(dtype=np.int64)
