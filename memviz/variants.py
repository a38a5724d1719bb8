"""Variants of a study's model: the weights of a checkpoint, or another mode of its dropout."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import replace

import torch

from memviz.checks import listed, quoted
from memviz.study import Study
from memviz.training.checkpoints import load_checkpoint
from memviz.training.example_tied_dropout import ExampleTiedDropout, set_mode

_MODES = {"own": "own masks", "scaled": "scaled", "dropped": "memorization dropped"}


def variants(study: Study) -> dict[str, str]:
    """The variants of a study's model, key to words; the key ``""`` is the study's own model.

    There is one per checkpoint, and one per further mode of its example-tied dropout; the mode
    ``"own"`` needs inputs that contain ``example_ids``.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)},
    ...               checkpoints={0: model.state_dict(), 5: model.state_dict()})
    >>> variants(study)
    {'': 'as it is', 'epoch 0': 'epoch 0', 'epoch 5': 'epoch 5'}
    """
    known = {"": "as it is"}
    mode = next(
        (module.mode for module in study.model.modules() if isinstance(module, ExampleTiedDropout)),
        None,
    )
    if mode is not None:
        one = study.rows(torch.tensor([0]))
        has_ids = isinstance(one, Mapping) and "example_ids" in one
        known[""] = _MODES[mode]
        others = {key: words for key, words in _MODES.items() if key != mode}
        known |= {key: words for key, words in others.items() if key != "own" or has_ids}
    return known | {f"epoch {epoch}": f"epoch {epoch}" for epoch in sorted(study.checkpoints)}


def check_variant(key: str, known: Collection[str]) -> None:
    """Refuse a key that is no variant's, and list those that are.

    Raises
    ------
    ValueError
        If ``key`` is not among ``known``.

    Examples
    --------
    >>> check_variant("epoch 7", ["", "epoch 5"])
    Traceback (most recent call last):
    ValueError: there is no variant 'epoch 7' of this model; choose from '', 'epoch 5'.
    """
    if not isinstance(key, str) or key not in known:
        raise ValueError(
            f"there is no variant {quoted(key)} of this model; choose from "
            f"{listed(map(quoted, known))}."
        )


def variant(study: Study, key: str) -> Study:
    """The same study with a copy of its model in another variant; ``""`` is the study itself.

    Raises
    ------
    ValueError
        If there is no such variant, or its checkpoint is of another architecture.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)},
    ...               checkpoints={5: model.state_dict()})
    >>> variant(study, "epoch 5").model is model
    False
    """
    check_variant(key, variants(study))
    if key == "":
        return study
    model = deepcopy(study.model)
    if key in _MODES:
        set_mode(model, key)  # type: ignore[arg-type]
    else:
        load_checkpoint(model, study.checkpoints[int(key.removeprefix("epoch "))])
    return replace(study, model=model, checkpoints={})
