"""Figures of plain tables: bars, the atlas, curves; nothing is computed here."""

from memviz.plots.atlas import atlas as atlas
from memviz.plots.bars import bars as bars
from memviz.plots.curve import ablation_curve as ablation_curve
from memviz.plots.curve import ablation_curves as ablation_curves
