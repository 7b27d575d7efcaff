"""Correcting: ablation of heads, injection, calibration; fitted once, saved, and applied to any images."""

from headlens.correct.ablation import MeanAblation, PrototypeAblation, ZeroAblation
from headlens.correct.base import CORRECTIONS, Correction, load_correction
from headlens.correct.calibrate import calibrate_classifier
from headlens.correct.compose import Compose, locate_then_correct
from headlens.correct.directions import basis_of_pairs, inject, reject
from headlens.correct.head_correction import HeadCorrection
from headlens.correct.injection import KnowledgeInjection
from headlens.correct.resample import ResampleAblation
from headlens.correct.roboshot import RoboShot
from headlens.correct.total import mean_z, total_ablation_hooks
from headlens.correct.view import CorrectedView, HeadView

__all__ = [
    "CORRECTIONS",
    "Compose",
    "CorrectedView",
    "Correction",
    "HeadCorrection",
    "HeadView",
    "KnowledgeInjection",
    "MeanAblation",
    "PrototypeAblation",
    "ResampleAblation",
    "RoboShot",
    "ZeroAblation",
    "basis_of_pairs",
    "calibrate_classifier",
    "inject",
    "load_correction",
    "locate_then_correct",
    "mean_z",
    "reject",
    "total_ablation_hooks",
]
