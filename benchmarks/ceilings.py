"""What this machine can do at most: matrix products, convolutions and copies on one thread.

    python -m benchmarks ceilings

A ratio to another program says little if the speed of the machine is unknown; these ceilings are
measured in the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.report import about, parser, show, significant
from benchmarks.timing import in_turn, one_thread

SIDE = 1024
IMAGES, CHANNELS, POSITIONS = 32, 128, 16
SMALL, LARGE = 16 * 10**6, 512 * 10**6


def measure(repeats: int = 5) -> dict[str, float]:
    """Ceilings of one thread: billions of operations, or of bytes, per second."""
    works = _works()
    with one_thread(), torch.inference_mode():
        timings = in_turn({name: run for name, (run, _) in works.items()}, repeats)
    return {
        name: significant(amount / min(timings[name].cpu) / 1e9)
        for name, (_, amount) in works.items()
    }


def _works() -> dict[str, tuple[Callable[[], Any], float]]:
    """Each piece of work with its operations (a multiply-add is two) or bytes read and written."""
    square = torch.randn(SIDE, SIDE)
    half = square.bfloat16()
    last = torch.channels_last
    images = torch.randn(IMAGES, CHANNELS, POSITIONS, POSITIONS).to(memory_format=last)
    kernel = torch.randn(CHANNELS, CHANNELS, 3, 3).to(memory_format=last)
    product = 2.0 * SIDE**3
    convolution = 2.0 * IMAGES * POSITIONS**2 * CHANNELS**2 * 9
    return {
        "gflop_per_second_f32_matrix_product": (lambda: square @ square, product),
        "gflop_per_second_f32_convolution": (
            lambda: F.conv2d(images, kernel, padding=1),
            convolution,
        ),
        "gflop_per_second_bf16_matrix_product": (lambda: half @ half, product),
        "gb_per_second_copying_16_mb": (_copy(SMALL), 2.0 * SMALL),
        "gb_per_second_copying_512_mb": (_copy(LARGE), 2.0 * LARGE),
    }


def _copy(size: int) -> Callable[[], Any]:
    source, target = torch.zeros(size // 4), torch.zeros(size // 4)
    return lambda: target.copy_(source)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("ceilings", __doc__)
    arguments.add_argument("--repeats", type=int, default=5)
    chosen = arguments.parse_args(argv)
    with one_thread():
        show({**measure(chosen.repeats), "about": about()}, as_json=chosen.json)


if __name__ == "__main__":
    main()
