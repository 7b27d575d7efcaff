from .basis import HeadBasis
from .decomposition import Constants, Decomposition, decompose
from .extraction import extract
from .head_states import HeadStates
from .moment_scores import MomentScores, moment_scores
from .moment_store import MomentStore
from .moments import Moments, group_moments, head_moments, merge_all
from .store import HeadStore

__all__ = [
    "Constants",
    "Decomposition",
    "HeadBasis",
    "HeadStates",
    "HeadStore",
    "MomentScores",
    "MomentStore",
    "Moments",
    "decompose",
    "extract",
    "group_moments",
    "head_moments",
    "merge_all",
    "moment_scores",
]
