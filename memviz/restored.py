"""What a call of a model may change, put back at the end of a block.

An interrupt can arrive in the very moment in which a block is left, and a generator's end would
then run much later, if at all. These contexts are no generators, and putting back twice is as good
as once: a block that is written twice, ``with calm, calm:``, is left even then.
"""

from __future__ import annotations

import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn


def version(tensor: Tensor) -> int:
    """In-place changes so far; inference tensors keep no count and can't be changed here."""
    return 0 if tensor.is_inference() else tensor._version


class Restored(ABC):
    """A block at whose end something is put back; made just before the block is entered."""

    def begin(self) -> None:  # noqa: B027 - most blocks have nothing to begin
        """What holds inside the block, if anything."""

    @abstractmethod
    def put_back(self) -> None:
        """Put back what was found when the object was made; it may be called again."""

    def __enter__(self) -> Any:
        try:
            self.begin()
            return self  # inside: an interrupt may come here, too
        except BaseException:
            self.put_back()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.put_back()


class buffers_kept(Restored):
    """Restore what a forward pass writes into buffers, such as a counter, in place or by name.

    Examples
    --------
    >>> model = nn.BatchNorm1d(2)
    >>> with buffers_kept(model) as kept:
    ...     _ = model(torch.randn(4, 2))
    ...     kept.written()
    True
    >>> int(model.num_batches_tracked)
    0
    """

    def __init__(self, model: nn.Module | None) -> None:
        self._kept = [
            (module._buffers, name, buffer, version(buffer), buffer.clone())
            for module in ([] if model is None else model.modules())
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]

    def written(self) -> bool:
        """Whether anything was written so far."""
        return any(
            buffers.get(name) is not buffer or _written(buffer, before, value)
            for buffers, name, buffer, before, value in self._kept
        )

    def put_back(self) -> None:
        """Put back values and tensors."""
        for buffers, name, buffer, before, value in self._kept:
            if _written(buffer, before, value):
                buffer.detach().copy_(value)
            buffers[name] = buffer  # the model may have assigned another tensor


def _written(buffer: Tensor, before: int, value: Tensor) -> bool:
    if version(buffer) != before:
        return True
    if buffer.layout != torch.strided:
        return False
    # Batch norm writes its running mean without counting it; NaN equals nothing.
    return not bool(((buffer == value) | ((buffer != buffer) & (value != value))).all())


class undisturbed(Restored):
    """Without gradients, and restoring the random state and the buffers that the model changes.

    The random state belongs to the whole process, so it is left alone if the model does not draw:
    another thread may be drawing. Modes that were entered inside and not left are left.

    Parameters
    ----------
    random : bool
        Whether the model draws.
    counting : nn.Module, optional
        The model if it writes into its own buffers.

    Examples
    --------
    >>> calm = undisturbed(random=False)
    >>> with calm, calm:
    ...     torch.is_grad_enabled()
    False
    >>> torch.is_grad_enabled()
    True
    """

    def __init__(self, *, random: bool, counting: nn.Module | None = None) -> None:
        self._gradients = torch.is_grad_enabled()
        self._modes = torch._C._len_torch_function_stack()
        self._buffers = buffers_kept(counting)
        self._state = torch.get_rng_state() if random else None
        self._of_devices = DeviceStates() if random else None

    def written(self) -> bool:
        """Whether a buffer was written so far."""
        return self._buffers.written()

    def begin(self) -> None:
        """No gradients."""
        torch.set_grad_enabled(False)

    def put_back(self) -> None:
        """Modes, buffers, random states and gradients."""
        while torch._C._len_torch_function_stack() > self._modes:
            torch._C._pop_torch_function_stack()
        self._buffers.put_back()
        if self._state is not None:
            torch.set_rng_state(self._state)
        if self._of_devices is not None:
            self._of_devices.put_back()
        torch.set_grad_enabled(self._gradients)


class DeviceDraws(NamedTuple):
    """How the random states of an accelerator's devices are read, written and seeded."""

    read: Callable[[], Any]
    write: Callable[[Any], object]
    seed: Callable[[int], object]


def device_draws() -> DeviceDraws | None:
    """Of the accelerator in use: CUDA, MPS, XPU or a plug-in; None if none is, or not yet.

    Examples
    --------
    >>> draws = device_draws()
    >>> draws is None or draws.read() is not None
    True
    """
    device = torch.accelerator.current_accelerator()
    if device is None:
        return None
    module = torch.get_device_module(device)
    # Asking an accelerator that is not in use would start it.
    if not getattr(module, "is_initialized", torch.accelerator.is_available)():
        return None
    if hasattr(module, "get_rng_state_all"):
        return DeviceDraws(
            module.get_rng_state_all, module.set_rng_state_all, module.manual_seed_all
        )
    return DeviceDraws(module.get_rng_state, module.set_rng_state, module.manual_seed)


class DeviceStates:
    """The random states of the accelerator in use, as they are now.

    Examples
    --------
    >>> DeviceStates().put_back()
    """

    def __init__(self) -> None:
        self._draws = device_draws()
        self._states = None if self._draws is None else self._draws.read()

    def put_back(self) -> None:
        """Make them what they were."""
        if self._draws is not None:
            self._draws.write(self._states)


class random_kept(Restored):
    """Put back the random states of torch, NumPy and Python that change meanwhile.

    Parameters
    ----------
    anywhere : bool
        Also in a background thread. Otherwise they are left alone there: what changed them may be
        a cell of the user's.

    Examples
    --------
    >>> before = torch.get_rng_state()
    >>> with random_kept() as kept:
    ...     _ = torch.rand(1)
    ...     kept.moved()
    ['torch']
    >>> torch.equal(before, torch.get_rng_state())
    True
    """

    def __init__(self, *, anywhere: bool = False) -> None:
        self._anywhere = anywhere
        self._states = {name: read() for name, (read, _) in _generators().items()}

    def moved(self) -> list[str]:
        """The names of those that changed so far."""
        now = _generators()
        return [name for name, state in self._states.items() if not _same(state, now[name][0]())]

    def put_back(self) -> None:
        """Put back what changed."""
        if self._anywhere or threading.current_thread() is threading.main_thread():
            for name in self.moved():
                _generators()[name][1](self._states[name])


class hooked(Restored):
    """Forward hooks on modules, which are gone at the end.

    They are found by themselves and not by torch's handles: an interrupt can come between a hook
    and its handle.

    Parameters
    ----------
    hooks : sequence of (nn.Module, callable, callable)
        A module, what is called before its forward pass with ``(module, args, kwargs)``, and what
        is called after it with ``(module, args, kwargs, output)``.

    Examples
    --------
    >>> model, seen = nn.Linear(2, 3), []
    >>> entering, leaving = lambda *_: seen.append("in"), lambda *_: seen.append("out")
    >>> with hooked([(model, entering, leaving)]):
    ...     _ = model(torch.zeros(1, 2))
    >>> seen, len(model._forward_hooks)
    (['in', 'out'], 0)
    """

    def __init__(
        self, hooks: Sequence[tuple[nn.Module, Callable[..., Any], Callable[..., Any]]]
    ) -> None:
        self._hooks, self._begun = hooks, False

    def begin(self) -> None:
        """Put them on, once for each block."""
        if not self._begun:
            self._begun = True
            for module, entering, leaving in self._hooks:
                module.register_forward_pre_hook(entering, with_kwargs=True)
                module.register_forward_hook(leaving, with_kwargs=True)

    def put_back(self) -> None:
        """Take them off."""
        for module, entering, leaving in self._hooks:
            before, after = module._forward_pre_hooks, module._forward_hooks
            _taken_out(before, module._forward_pre_hooks_with_kwargs, entering)
            _taken_out(after, module._forward_hooks_with_kwargs, leaving)
        self._begun = False  # they may be put on again


def _taken_out(hooks: dict[int, Any], with_kwargs: dict[int, Any], hook: object) -> None:
    for key in [key for key, known in list(hooks.items()) if known is hook]:
        hooks.pop(key, None)
        with_kwargs.pop(key, None)


def _generators() -> dict[str, tuple[Callable[[], Any], Callable[[Any], object]]]:
    """How the state of each global generator is read and written."""
    generators: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
        "torch": (torch.get_rng_state, torch.set_rng_state),
        "Python's random module": (random.getstate, random.setstate),
        "NumPy": (lambda: np.random.get_state(legacy=False), np.random.set_state),  # noqa: NPY002
    }
    of_devices = device_draws()
    if of_devices is not None:
        generators["torch on the GPU"] = of_devices.read, of_devices.write
    return generators


def _same(before: Any, now: Any) -> bool:
    if isinstance(before, Tensor):
        return torch.equal(before, now)
    if isinstance(before, list):
        return all(map(torch.equal, before, now))
    if isinstance(before, dict):  # NumPy's, which holds another dict and an array
        return before.keys() == now.keys() and all(_same(before[k], now[k]) for k in before)
    if isinstance(before, np.ndarray):
        return np.array_equal(before, now)
    return bool(before == now)
