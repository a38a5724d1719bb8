"""Messages of the capacity playground."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memviz.probes.capacity import units_by_points
from memviz.session import Session
from memviz.widgets.core import Message, layers_content, pack, unit_scores_message

from ._beside import DRAWN, SIDE, Beside, window
from ._network import Network
from ._points import KINDS, PIXELS, Own
from ._reading import Reading
from ._settings import METHODS, Settings

_AXIS = (10, 18, 32, 56, 100, 178, 316, 562, 1000)
SHADE = "weights"


def study_message(session: Session, network: Network, built: int) -> Message:
    """Layers and units of the network; ``built`` numbers it, since two may look the same."""
    study = session.study
    content: dict[str, Any] = {"type": "study", "built": built, "name": study.name}
    content |= {"summary": summary(network.settings), "classes": ["−", "+"], "groups": []}
    content |= layers_content(session.known, session.known) | {"methods": []}
    content |= {"scores": [{"key": SHADE, "label": "incoming weights"}], "interventions": []}
    content |= {"examples": len(study), "variants": []}
    content["image"] = {"height": 1, "width": 1, "channels": 1, "ink": True}
    up = (network.points.signs > 0).numpy().astype(np.uint16)
    return pack(content, label=up, truth=up, group=np.full(len(up), 255, np.uint16))


def summary(settings: Settings) -> str:
    """What is built, in words."""
    kind = "your points" if settings.kind == "own" else KINDS[settings.kind]
    where = "in the plane" if settings.features == 2 else f"in {settings.features} dimensions"
    if settings.kind == "digits":
        where = f"on {settings.features} of {PIXELS} principal directions"
    return f"{settings.words} · {settings.n} points · {kind} {where}"


def shade_message(session: Session, network: Network) -> Message:
    """How strong each unit's incoming weights are."""
    modules = dict(network.study.model.named_modules())
    norms = []
    for layer in session.known:
        module = modules[layer.name]
        assert isinstance(module, nn.Linear)
        norms.append(module.weight.detach().double().norm(dim=1))
    value = torch.cat(norms).float().numpy()
    return unit_scores_message(SHADE, "incoming weights", "norm of the incoming weights", value)


def settings_content(
    settings: Settings, own: Own | None, balance: tuple[int, int]
) -> dict[str, Any]:
    """The choices, their ends, and what each method takes."""
    first, second = settings.shown_widths
    kinds = [{"key": key, "label": words} for key, words in KINDS.items()]
    kinds += [{"key": "own", "label": "your points"}] if own is not None else []
    methods = [
        {"key": key, "label": words, "units": settings.units(key, balance)}
        for key, (_, _, words) in METHODS.items()
    ]
    values = {"kind": settings.kind, "n": settings.n, "features": settings.features}
    values |= {"first": first, "second": second, "method": settings.method}
    values |= {"precision": settings.precision, "seed": settings.seed}
    return {"values": values, "ends": settings.ends(own), "kinds": kinds, "methods": methods}


def function_message(
    network: Network, reading: Reading, built: int, version: int, words: str
) -> Message:
    """Values at the points and along the line, before and after."""
    memorizer, signs = network.memorizer, network.points.signs
    content: dict[str, Any] = {"type": "capacity", "built": built, "version": version}
    content["sentence"] = words
    content |= {"units": len(reading.units), "null": reading.null, "off": reading.owners}
    content |= {"right": [reading.right(v, signs) for v in (reading.before, reading.after)]}
    content["ownerUnits"] = [str(network.units_of(k)) for k in range(len(memorizer.owner_units))]
    content["layer"] = memorizer.owner_layer
    groups = [] if memorizer.groups is None else range(memorizer.widths[0])
    content["groupUnits"] = [str(network.units_of_group(k)) for k in groups]
    arrays = {
        "along": network.along,
        "lineBefore": reading.line_before,
        "lineAfter": reading.line_after,
        "place": network.places,
        "before": reading.before,
        "after": reading.after,
    }
    plain = {name: _single(values) for name, values in arrays.items()}
    group = torch.zeros_like(memorizer.owners) if memorizer.groups is None else memorizer.groups
    plain |= {"owner": memorizer.owners.numpy().astype(np.uint16)}
    plain |= {"sign": (signs > 0).numpy().astype(np.uint8)}
    plain |= {"moved": reading.moved.numpy().astype(np.uint8)}
    content["grouped"] = memorizer.groups is not None
    return pack(content, **plain, group=group.numpy().astype(np.uint16))


def beside_message(network: Network, found: Beside) -> Message:
    """One method on the same points."""
    content: dict[str, Any] = {"type": "capacity_beside", "method": found.method}
    content |= {"words": found.words, "units": found.units, "largest": found.largest}
    content |= {"float64": found.float64, "float32": found.float32, "train": found.train}
    content |= {"test": found.test, "covered": found.covered, "refused": found.refused}
    content |= {"drawn": found.method in DRAWN and found.regions is not None, "side": SIDE}
    arrays: dict[str, np.ndarray] = {}
    if found.regions is not None:
        points = network.points
        content["window"] = list(window(points))
        arrays = {"regions": found.regions, "at": _single(points.inputs)}
        arrays["sign"] = (points.signs > 0).numpy().astype(np.uint8)
        if found.radii is not None:
            arrays["radii"] = _single(found.radii)
    return pack(content, **arrays)


def needed_message(settings: Settings, trained: dict[int, tuple[int, bool]]) -> Message:
    """Units needed against the number of points, and the triangles of trained networks."""
    table = units_by_points(_AXIS, settings.features)
    lines = [
        {"method": method, "label": rows.label.iloc[0], "units": rows.units.tolist()}
        for method, rows in table.groupby("method", sort=False)
        if method in ("yun", "yun hardtanh", "zhang", "none")
    ]
    content = {"type": "capacity_needed", "points": list(_AXIS), "lines": lines}
    content["trained"] = [
        {"points": n, "units": units, "reached": reached} for n, (units, reached) in trained.items()
    ]
    return Message(content, [])


def _single(values: Tensor) -> np.ndarray:
    return np.asarray(values.detach().numpy().astype(np.float32))
