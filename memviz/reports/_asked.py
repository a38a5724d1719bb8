"""What was asked of which model and data, and with what it was computed."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata

import torch
from torch import nn

from memviz.study import Study, study_facts
from memviz.units import Layer

from ._parts import facts, plural, words

_PACKAGES = ("torch", "numpy", "pandas", "matplotlib", "scikit-learn", "seaborn")
_DISTRIBUTION = "memviz-torch"


def about_study(study: Study, layers: list[Layer], asked: Mapping[str, str]) -> list[str]:
    """The model, the examples and what was asked of them, and where the groups came from."""
    hashes = study_facts(study)
    groups = ", ".join(f"{int(mask.sum()):,} {name}" for name, mask in study.groups.items())
    told = {
        "study": study.name,
        **({"about it": study.summary} if study.summary else {}),
        "model": about_model(study.model),
        "units that can be ablated": about_layers(layers),
        "examples": f"{len(study):,}: {groups}",
        "right or wrong is judged by": hashes["task"],
        **asked,
        "weights": f"SHA-256 {hashes['weights'][:16]}…",
        "inputs and labels": f"SHA-256 {hashes['data'][:16]}…",
        **({"code": study.origin} if study.origin else {}),
    }
    notes = []
    if study.suspicion is not None:
        notes = [words(study.suspicion.words, "note"), words(study.suspicion.unsaid, "note")]
    return [facts(told), *notes]


def about_model(model: nn.Module) -> str:
    """Its class and its size."""
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"{type(model).__name__}, {count:,} parameters"


def about_layers(layers: list[Layer]) -> str:
    """How many units in how many layers."""
    return f"{sum(layer.units for layer in layers):,} in {len(layers):,} layers"


def about_computing(seed: int, device: torch.device, engine: str) -> list[str]:
    """Versions, the seed, and on what it was computed."""
    told = {
        "memviz": _version(_DISTRIBUTION),
        "Python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "seed": f"{seed}, of every random draw",
        "device": f"{device.type}, {plural(torch.get_num_threads(), 'thread')}",
        "engine": engine,
    }
    return [facts(told)]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed as a package"
