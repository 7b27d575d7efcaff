"""What FairFace and UTKFace share: the columns of perceived attributes, and one of them as the label."""

from __future__ import annotations

import pandas as pd

AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
GENDERS = ("female", "male")
COLUMNS = ("age_presentation", "gender_presentation", "perceived_race")


def with_label(frame: pd.DataFrame, label: str, races: tuple[str, ...]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The manifest with one of its attributes as the label, and that attribute's values as the classes."""
    classes = dict(zip(COLUMNS, (AGES, GENDERS, races), strict=True))[label]
    return frame.assign(label=frame[label]), classes
