from . import (
    audit,
    benchmark,
    correct,
    datasets,
    document,
    errors,
    explain,
    locate,
    metrics,
    plots,
    prompts,
    steps,
    testbed,
)
from ._version import __version__
from .audit import Audit
from .baking import bake, baking_distance
from .document import compare
from .errors import HeadlensError
from .extraction import HeadStore, MomentStore, extract, extract_moments
from .head_atlas import atlas
from .heads import HeadId, HeadScores
from .loading import load
from .manifest import read_manifest
from .models import HookedCLIP, HookedVisionTransformer, LoadOptions, ModelDescription, parity
from .prompts import Attribute, ZeroShotTask
from .states import Decomposition, decompose

__all__ = [
    "Attribute",
    "Audit",
    "Decomposition",
    "HeadId",
    "HeadScores",
    "HeadStore",
    "HeadlensError",
    "HookedCLIP",
    "HookedVisionTransformer",
    "LoadOptions",
    "ModelDescription",
    "MomentStore",
    "ZeroShotTask",
    "__version__",
    "atlas",
    "audit",
    "bake",
    "baking_distance",
    "benchmark",
    "compare",
    "correct",
    "datasets",
    "decompose",
    "document",
    "errors",
    "explain",
    "extract",
    "extract_moments",
    "load",
    "locate",
    "metrics",
    "parity",
    "plots",
    "prompts",
    "read_manifest",
    "steps",
    "testbed",
]
