"""Memorization in self-supervised encoders (Wang et al. 2024, arXiv:2409.19069).

Which units belong to one image (UnitMem) or to one class (ClassMem), and whether UnitMem finds an
image that was planted.
"""

from __future__ import annotations

from memviz.probes.encoders_injection import Injection, inject
from memviz.probes.encoders_units import UnitScores, class_mem, class_selectivity, unit_mem

__all__ = [
    "Injection",
    "UnitScores",
    "class_mem",
    "class_selectivity",
    "inject",
    "unit_mem",
]
