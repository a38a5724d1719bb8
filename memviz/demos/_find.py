"""Demos by their names: every module beside this one that can load and prepare a study."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Literal, overload

from memviz import registry
from memviz.checks import coded, quoted

if TYPE_CHECKING:
    from memviz.demos.encoders import Encoders
    from memviz.probes.deja_vu.ablation import Retrieval
    from memviz.study import Study


@overload
def demo(name: Literal["scenes"], seed: int = 0) -> Retrieval: ...  # type: ignore[overload-overlap]


@overload
def demo(name: Literal["encoders"], seed: int = 0) -> Encoders: ...  # type: ignore[overload-overlap]


@overload
def demo(name: str = "digits", seed: int = 0) -> Study: ...


def demo(name: str = "digits", seed: int = 0) -> Study | Retrieval | Encoders:
    """Load a ready study by its name; two demos hold a pair of models instead.

    A seed draws the split, the wrong labels and the initial weights. Seeds 0, 1 and 2 ship with
    memviz; any other is trained on first use. ``"digits"``: a network that has memorized 120 wrong
    labels. ``"example_tied"``: the same with example-tied dropout. ``"early_learning"``: 40 %
    random labels, trained with cross-entropy. The last one and the following ship with seed 0 only.
    ``"language"``: a small GPT that recites passages of the Python documentation.
    ``"scenes"``, for ``mv.deja_vu``: a small CLIP model that has memorized 1,000 captions with
    their pictures, and its reference. ``"encoders"``, for ``memviz.probes.encoders``: two SimCLR
    encoders of digits whose training sets differ in 50 images. ``"density"``: a VAE of digits that
    has memorized noise, with its trainings on folds. ``"gates"``: 9,000 logic gates
    that have memorized wrong labels of digits, of seeds 0, 1 and 2. ``"memorizers"``: a network of
    explicit weights in which the units that own each image are known, of any seed.

    Raises
    ------
    ValueError : there is no demo of this name, or the seed is not a whole number from 0 up.

    Examples
    --------
    >>> demo("digits").name
    'digits'
    """
    # Only the one asked for is imported: all of them take seconds.
    places = registry.places("demos")
    module = import_module(places[name]) if name in list(places) else None
    if module is None or not _is_demo(module):
        names = ", ".join(repr(known) for known in sorted(demos()))
        raise ValueError(coded("E35", f"There is no demo {quoted(name)}; choose from: {names}."))
    study: Study | Retrieval | Encoders = module.load(seed)
    return study


def demos() -> dict[str, ModuleType]:
    """Every demo's module, imported.

    A demo has ``load(seed)`` and ``prepare(seeds, folder)``, or sets ``BUILT`` if it is built each
    time and nothing is trained. It may say in ``SHIPPED_SEEDS`` which seeds to prepare by default,
    and in ``MINUTES`` how long one of them takes on two cores. What else the notebooks read, and
    the package does not ship, its ``keep()`` trains and keeps.

    Examples
    --------
    >>> sorted(demos())[:3]
    ['density', 'digits', 'early_learning']
    """
    return {name: module for name, module in registry.load("demos").items() if _is_demo(module)}


def _is_demo(module: ModuleType) -> bool:
    return hasattr(module, "load") and (
        hasattr(module, "prepare") or getattr(module, "BUILT", False)
    )
