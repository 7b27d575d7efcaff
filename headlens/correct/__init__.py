"""Correcting: ablation, injection, erasure, calibration, probes; fitted once, saved, and applied to any images."""

from headlens.correct.base import (
    CORRECTIONS,
    LEARNT,
    ClassifierCorrection,
    CorrectedView,
    Correction,
    EmbeddingCorrection,
    HeadCorrection,
    load_correction,
)
from headlens.correct.calibration import OrthoCali, calibrate_classifier
from headlens.correct.compose import ByClass, ByImage, Compose, locate_then_correct
from headlens.correct.directions import (
    KnowledgeInjection,
    RoboShot,
    basis_of_pairs,
    inject,
    leading_pairs,
    reject,
)
from headlens.correct.erasure import EmbeddingErasure, Eraser, HeadErasure, fit_eraser
from headlens.correct.head_ablation import MeanAblation, PrototypeAblation, ResampleAblation, ZeroAblation
from headlens.correct.probes import ErmProbe, JustTrainTwice, LastLayerRetraining, Probe, balanced_rows
from headlens.correct.total import Tokens, mean_z, total_ablation_hooks
from headlens.correct.views import HeadView, KnownLogits, View

__all__ = [
    "CORRECTIONS",
    "LEARNT",
    "ByClass",
    "ByImage",
    "ClassifierCorrection",
    "Compose",
    "CorrectedView",
    "Correction",
    "EmbeddingCorrection",
    "EmbeddingErasure",
    "Eraser",
    "ErmProbe",
    "HeadCorrection",
    "HeadErasure",
    "HeadView",
    "JustTrainTwice",
    "KnowledgeInjection",
    "KnownLogits",
    "LastLayerRetraining",
    "MeanAblation",
    "OrthoCali",
    "Probe",
    "PrototypeAblation",
    "ResampleAblation",
    "RoboShot",
    "Tokens",
    "View",
    "ZeroAblation",
    "balanced_rows",
    "basis_of_pairs",
    "calibrate_classifier",
    "fit_eraser",
    "inject",
    "leading_pairs",
    "load_correction",
    "locate_then_correct",
    "mean_z",
    "reject",
    "total_ablation_hooks",
]
