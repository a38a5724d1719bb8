"""Seeds, and what a model itself draws: torch's global generators, seeded and put back."""

from __future__ import annotations

import operator
from contextlib import suppress
from threading import RLock
from types import TracebackType

import torch
from torch import Tensor

from memviz.restored import DeviceStates, device_draws

# Threads share torch's global generators.
_ONE_AT_A_TIME = RLock()


def check_seed(seed: object) -> int:
    """A seed as an int: whole numbers of Python, NumPy and torch are taken.

    Raises
    ------
    ValueError
        If it is not a whole number from 0 to 2**63 - 1.

    Examples
    --------
    >>> check_seed(torch.tensor(3))
    3
    >>> check_seed(2**63)
    Traceback (most recent call last):
    ValueError: seed must be a whole number from 0 to 2**63 - 1, but got 9223372036854775808.
    """
    try:
        number = operator.index(seed)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        number = -1
    if isinstance(seed, bool) or not 0 <= number < 2**63:
        raise ValueError(
            f"seed must be a whole number from 0 to 2**63 - 1, but got {repr(seed)[:200]}."
        )
    return number


class _Seeded:
    """A context that may be left twice: the second time does what an interrupt kept from the first.

    It is no generator, whose end would run much later where an interrupt missed it.
    """

    def __init__(self, seed: int, device: str) -> None:
        self._seed, self._device = seed, device
        self._before: tuple[Tensor, DeviceStates, bool] | None = None
        self._locked = False

    def __enter__(self) -> None:
        if self._before is None:
            try:
                self._begin()
            except BaseException:
                self.__exit__()
                raise

    def _begin(self) -> None:
        if torch.device(self._device).type == "cuda":
            torch.cuda.init()
        self._locked = True  # before the lock is taken, since an interrupt may come right after
        _ONE_AT_A_TIME.acquire()
        self._before = torch.get_rng_state(), DeviceStates(), torch.is_grad_enabled()
        torch.default_generator.manual_seed(self._seed)
        of_devices = device_draws()
        if of_devices is not None:
            of_devices.seed(self._seed)

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        where: TracebackType | None = None,
    ) -> None:
        if self._before is not None:
            drawing, devices, gradients = self._before
            torch.default_generator.set_state(drawing)
            devices.put_back()
            torch.set_grad_enabled(gradients)
            self._before = None
        if self._locked:
            self._locked = False
            with suppress(RuntimeError):  # an interrupt came while it waited for the lock
                _ONE_AT_A_TIME.release()


def seeded_draws(seed: int, device: str = "cpu") -> _Seeded:
    """Seed the global generators of the CPU and of the accelerator in use; put them back after.

    Gradients are enabled or disabled as before, too. An interrupt can arrive in the very moment in
    which a context is left; one that is written twice, ``with draws, draws:``, is left even then.

    Examples
    --------
    >>> with seeded_draws(3):
    ...     first = torch.rand(2)
    >>> with seeded_draws(3):
    ...     bool((first == torch.rand(2)).all())
    True
    """
    return _Seeded(seed, device)


def seeded_epoch(seed: int, epoch: int) -> _Seeded:
    """For the steps of one epoch: what the model itself draws, as dropout does, is seeded.

    By seed and epoch, so that a training that goes on draws what an uninterrupted one would.

    Examples
    --------
    >>> drawn = []
    >>> for epoch in (1, 2, 2):
    ...     with seeded_epoch(0, epoch):
    ...         drawn.append(torch.rand(()).item())
    >>> drawn[0] == drawn[1], drawn[1] == drawn[2]
    (False, True)
    """
    return seeded_draws((int(seed) * 1_000_003 + epoch) % 2**63)
