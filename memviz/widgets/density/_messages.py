"""Messages of the density explorer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from memviz.widgets.core import Message, pack

from ._table import DensityTable, Estimate, Nearest


def nats(value: float) -> str:
    """A number of nats with one decimal and a true minus sign.

    Examples
    --------
    >>> nats(61.44), nats(-0.3), nats(-0.01), nats(float("nan")), nats(-np.inf)
    ('61.4', '−0.3', '0.0', 'unknown', '−∞')
    """
    if np.isnan(value):
        return "unknown"
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{round(float(value), 1) + 0.0:.1f}".replace("-", "−")  # -0 is 0


def density_message(
    table: DensityTable,
    estimates: Sequence[Sequence[Estimate]],
    held_out: Sequence[str],
    times: np.ndarray,
) -> Message:
    """What every image shares: the curves over epochs, one row a learning rate.

    ``times``, uint16 ``[m]``, says how often each of the table's images is among them.
    """
    rates, epochs = list(table.rates), list(table.epochs)
    content: dict[str, Any] = {
        "type": "density",
        "rates": [float(rate) for rate in rates],
        "epochs": [int(epoch) for epoch in epochs],
        "curves": [[_curve_point(estimate) for estimate in of_rate] for of_rate in estimates],
        "held_out": list(held_out),
        "of_model": None if table.of_model is None else list(table.of_model),
    }
    return pack(content, examples=np.asarray(table.examples, np.uint32), times=times)


def _curve_point(estimate: Estimate) -> dict[str, Any]:
    known = np.asarray(estimate.memorization)
    known = known[np.isfinite(known)]
    low, high = estimate.null_of_quantile
    return {
        "q95": _finite(float(np.quantile(known, 0.95))) if len(known) else None,
        "null": [_finite(low), _finite(high)],
        "held_out": _finite(estimate.held_out),
    }


def values_message(rate: int, epoch: int, estimate: Estimate) -> Message:
    """M and both log mean densities of every image, for one rate and epoch by their places."""
    arrays = {
        "m": estimate.memorization,
        "inside": estimate.inside,
        "outside": estimate.outside,
        "matched": estimate.matched,
        "null_low": estimate.null[0],
        "null_high": estimate.null[1],
    }
    content = {"type": "density_values", "rate": rate, "epoch": epoch}
    return pack(content, **{name: np.asarray(a, np.float32) for name, a in arrays.items()})


def likelihoods_message(
    index: int, column: int | None, estimates: Sequence[Sequence[Estimate]]
) -> Message:
    """The opened image's log-likelihood in every training, ``[rates, epochs, trainings]``.

    The side is 1 in training, 0 held out, 2 where a rate has fewer trainings.
    """
    content = {"type": "density_image", "index": index, "covered": column is not None}
    if column is None:
        return Message({**content, "arrays": []}, [])
    most = max(len(of_rate[0].log_p) for of_rate in estimates)
    shape = len(estimates), len(estimates[0]), most
    log_p, side = np.full(shape, np.nan, np.float32), np.full(shape, 2, np.uint8)
    for i, of_rate in enumerate(estimates):
        for j, estimate in enumerate(of_rate):
            t = len(estimate.log_p)
            log_p[i, j, :t] = np.asarray(estimate.log_p)[:, column]
            side[i, j, :t] = np.asarray(estimate.is_in)[:, column]
    return pack({**content, "trainings": most}, log_p=log_p, side=side)


def nearest_message(index: int, found: Nearest, pixels: np.ndarray) -> Message:
    """The images nearest to the opened one; ``pixels`` are of the generated, uint8."""
    content = {
        "type": "density_nearest",
        "index": index,
        "trained": found.trained,
        "trained_distances": found.trained_distances,
        "generated_distances": found.generated_distances,
        "of": found.of,
        "held_out_distance": _finite(found.held_out_distance),
        "shape": list(pixels.shape[1:]),
    }
    return pack(content, generated=pixels)


def ratios_message(ratios: np.ndarray) -> Message:
    """The nearest-neighbour ratio of every image, float32 ``[m]``, with its quartiles."""
    known = ratios[np.isfinite(ratios)]
    quartiles = np.percentile(known, [25, 75]).tolist() if len(known) else [None, None]
    content = {"type": "density_ratios", "quartiles": quartiles}
    return pack(content, ratio=np.asarray(ratios, np.float32))


def reconstruction_message(
    content: dict[str, Any], names: Sequence[str], pixels: np.ndarray
) -> Message:
    """Pictures of the opened image and of what the model makes of it, uint8 ``[n, h, w, c]``."""
    content = {"type": "density_reconstruction", **content, "shape": list(pixels.shape[1:])}
    return pack(content, **dict(zip(names, pixels, strict=True)))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
