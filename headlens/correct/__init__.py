"""Correcting: ablation, injection, erasure, calibration, probes; fitted once, saved, and applied to any images."""

from headlens.correct.ablation import MeanAblation, PrototypeAblation, ZeroAblation
from headlens.correct.balance import balanced_rows
from headlens.correct.base import CORRECTIONS, Correction, load_correction
from headlens.correct.calibrate import calibrate_classifier
from headlens.correct.compose import Compose, locate_then_correct
from headlens.correct.directions import basis_of_pairs, inject, reject
from headlens.correct.erasure import EmbeddingErasure, HeadErasure
from headlens.correct.head_correction import HeadCorrection
from headlens.correct.injection import KnowledgeInjection
from headlens.correct.leace import Eraser, fit_eraser
from headlens.correct.ortho_cali import OrthoCali
from headlens.correct.probe import Probe
from headlens.correct.probe_erm import ErmProbe
from headlens.correct.probe_jtt import JustTrainTwice
from headlens.correct.probe_last_layer import LastLayerRetraining
from headlens.correct.resample import ResampleAblation
from headlens.correct.roboshot import RoboShot
from headlens.correct.total import Tokens, mean_z, total_ablation_hooks
from headlens.correct.view import CorrectedView, HeadView

__all__ = [
    "CORRECTIONS",
    "Compose",
    "CorrectedView",
    "Correction",
    "EmbeddingErasure",
    "Eraser",
    "ErmProbe",
    "HeadCorrection",
    "HeadErasure",
    "HeadView",
    "JustTrainTwice",
    "KnowledgeInjection",
    "LastLayerRetraining",
    "MeanAblation",
    "OrthoCali",
    "Probe",
    "PrototypeAblation",
    "ResampleAblation",
    "RoboShot",
    "Tokens",
    "ZeroAblation",
    "balanced_rows",
    "basis_of_pairs",
    "calibrate_classifier",
    "fit_eraser",
    "inject",
    "load_correction",
    "locate_then_correct",
    "mean_z",
    "reject",
    "total_ablation_hooks",
]
