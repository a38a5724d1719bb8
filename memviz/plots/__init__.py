"""Figures of what a probe or the engine returned; nothing is computed here."""

from memviz.plots.atlas import atlas
from memviz.plots.curve import ablation_curve, ablation_curves
from memviz.plots.picture import picture
from memviz.plots.scores import scores

__all__ = ["ablation_curve", "ablation_curves", "atlas", "picture", "scores"]
