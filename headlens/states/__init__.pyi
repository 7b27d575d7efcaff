from .basis import HeadBasis
from .decomposition import Constants, Decomposition, decompose
from .head_states import HeadStates
from .moments import HasHeadStates, Moments, contribution_variance, group_moments, head_moments, merge_all
from .projection import Projection
from .scores import MomentScores, moment_scores

__all__ = [
    "Constants",
    "Decomposition",
    "HasHeadStates",
    "HeadBasis",
    "HeadStates",
    "MomentScores",
    "Moments",
    "Projection",
    "contribution_variance",
    "decompose",
    "group_moments",
    "head_moments",
    "merge_all",
    "moment_scores",
]
