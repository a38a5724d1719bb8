"""What a model calls: every torch function of one forward pass, seen from outside.

A torch function mode sees every call, whether a module or the user's own code makes it, works with
any model, is local to the thread and leaves nothing on the model. Three passes share this code:
*trace* learns which calls change a tensor in place, *record* keeps every result, and *replay* (in
``_replay.py``) returns kept results until something has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from memviz.restored import DeviceStates, Restored, hooked, undisturbed, version
from memviz.units import Marked

from ._values import Key, key_of, leaves, memory, positional, storage_bytes, tensors_in

_Bytes = bytes  # a property of the trace bears that name

_T = Tensor
# These only read metadata: neither recorded nor replayed.
METADATA: frozenset[Any] = frozenset(
    [
        *(_T.size, _T.dim, _T.stride, _T.numel, _T.is_contiguous, _T.is_floating_point),
        *(_T.is_complex, _T.element_size, _T.ndimension, _T.__len__, _T.nelement),
        *(torch.is_floating_point, torch.is_complex, torch.numel, _T.get_device),
        *(
            getattr(_T, name).__get__
            for name in (
                *("shape", "dtype", "device", "ndim", "layout", "is_cuda", "is_mps", "is_sparse"),
                *("is_quantized", "is_meta", "requires_grad", "is_nested", "itemsize"),
            )
        ),
    ]
)


@dataclass(slots=True)
class Call:
    """One recorded call: what went in, what came out, what it changed in place."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: list[Tensor]
    constants: list[Any]
    output: Any
    replaced: dict[int, Tensor] = field(default_factory=dict)


@dataclass(slots=True)
class Traced:
    """One call of the trace, with keys that follow a tensor through in-place changes."""

    name: str
    function: Callable[..., Any]
    inputs: list[Tensor]
    input_keys: list[Key]
    output: Any
    output_keys: list[Key]
    mutates: tuple[int, ...]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    weights: tuple[tuple[int, Tensor], ...] = ()
    # The random state it drew from; empty if it drew nothing.
    drawn_from: bytes = b""

    def is_call_of(self, function: Callable[..., Any], inputs: list[Tensor]) -> bool:
        """Whether a call is this one: the same function with the same weights."""
        return self.function == function and all(
            k < len(inputs) and inputs[k] is weight for k, weight in self.weights
        )


@dataclass(frozen=True, eq=False)
class ModuleCall:
    """One call of a module: the torch calls made inside it, and the tensors at its ends.

    ``number`` counts the calls of this module in the pass, from 0; the torch calls inside are
    those from ``first`` to just before ``end``.
    """

    name: str
    module: nn.Module
    number: int
    first: int
    end: int
    inputs: tuple[Key, ...]
    outputs: tuple[Key, ...]


@dataclass
class Trace:
    """The calls of one forward pass, and which of them may be cached.

    ``volatile`` calls touch memory that is changed through an alias, such as a view; they really
    run each time, so what depends on them is right without a cache. ``counting`` is the model
    if its forward pass writes into its own buffers. ``modules`` are the modules called, in the
    order in which they return. While ``marked`` lasts, declared units are seen.
    """

    calls: list[Traced]
    volatile: frozenset[int]
    raw: Any
    random: bool = False
    counting: nn.Module | None = None
    modules: list[ModuleCall] = field(default_factory=list)
    # Why the pass can't be run again from its record; empty if it can.
    unseen: str = ""
    marked: Marked = field(default_factory=lambda: Marked(nn.Module()))

    @property
    def bytes(self) -> int:
        """Memory of the results of all calls; views are counted once."""
        return storage_bytes(call.output for call in self.calls)

    def drawn(self) -> list[tuple[str, _Bytes]]:
        """Calls that draw random numbers on which the output depends, and what they draw from."""
        reaching = {key_of(tensor) for tensor in tensors_in(self.raw)}
        drawn = []
        for call in reversed(self.calls):
            changed = [(id(call.inputs[k]), version(call.inputs[k])) for k in call.mutates]
            if reaching.isdisjoint([*call.output_keys, *changed]):
                continue
            reaching.update(call.input_keys)
            if call.drawn_from:
                drawn.append((call.name, call.drawn_from))
        return drawn

    @property
    def largest(self) -> int:
        """Memory of the largest single result."""
        results = [tensor for call in self.calls for tensor in tensors_in(call.output)]
        return max((tensor.nbytes for tensor in results), default=1)


class _Draws(TorchDispatchMode):
    """Counts the calls of this thread that may draw from torch's own generators."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.number = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing compiles while a mode counts; telling dynamo so would import it, for seconds.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tags = getattr(func, "tags", ())
        if torch.Tag.nondeterministic_seeded in tags and kwargs.get("generator") is None:
            self.number += 1
        with torch._C.DisableTorchFunction():  # seen already, or no call of the model's Python
            return func(*args, **kwargs)


class _DrawsUndone(Restored):
    """Put torch's random state back if this thread drew: other threads may be drawing too."""

    def __init__(self) -> None:
        self._modes, self._state = torch._C._len_torch_dispatch_stack(), torch.get_rng_state()
        self._of_devices = DeviceStates()
        self.draws = _Draws()

    def begin(self) -> None:
        if torch._C._len_torch_dispatch_stack() == self._modes:
            self.draws.__enter__()  # type: ignore[no-untyped-call]

    def put_back(self) -> None:
        while torch._C._len_torch_dispatch_stack() > self._modes:
            with suppress(IndexError):  # an interrupt came in the middle of it before
                self.draws.__exit__(None, None, None)  # type: ignore[no-untyped-call]
                continue
            torch._C._pop_torch_dispatch_stack(None)
        if self.draws.number:
            if not torch.equal(self._state, torch.get_rng_state()):
                torch.set_rng_state(self._state)
            self._of_devices.put_back()


class _Tracing(TorchFunctionMode):
    def __init__(self, draws: _Draws) -> None:
        self.draws = draws
        self.calls: list[Traced] = []
        # By id; the tensors are kept alive, or Python could give an id to another one.
        self.seen: dict[int, tuple[Tensor, int]] = {}
        self.copies: dict[int, Tensor] = {}
        self.aliased: list[Tensor] = []
        self.changed: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = positional(func, args, kwargs or {})
        if func in METADATA:
            return func(*args, **kwargs)
        tensors, _ = leaves(args, kwargs)
        before = [key_of(tensor) for tensor in tensors]
        for tensor in tensors:
            self._see(tensor)
        state, drawn = torch.get_rng_state(), self.draws.number
        output = func(*args, **kwargs)
        drew = self.draws.number > drawn and not torch.equal(state, torch.get_rng_state())
        mutates = tuple(k for k, t in enumerate(tensors) if version(t) != before[k][1])
        if mutates:
            self._changed([tensors[k] for k in mutates])
        outputs = tensors_in(output)
        for tensor in outputs:
            self._see(tensor, anew=True)
        name = getattr(func, "__name__", str(func))
        keys = [key_of(tensor) for tensor in outputs]
        traced = Traced(name, func, tensors, before, output, keys, mutates, args, kwargs)
        traced.drawn_from = state.numpy().tobytes() if drew else b""
        self.calls.append(traced)
        return output

    def unseen(self) -> str:
        """The call whose result was changed and no torch call did it; empty if there is none."""
        for call in self.calls:
            for tensor in tensors_in(call.output):
                copy = self.copies.get(id(tensor))
                if copy is None or memory(tensor) in self.changed:
                    continue
                same = (tensor == copy) | (tensor != tensor)  # NaN equals nothing
                if not same.all():
                    return call.name
        return ""

    def _see(self, tensor: Tensor, *, anew: bool = False) -> None:
        if anew or id(tensor) not in self.seen:
            self.seen[id(tensor)] = (tensor, version(tensor))
            if memory(tensor) and not tensor.requires_grad:
                self.copies[id(tensor)] = tensor.detach().clone()

    def _changed(self, mutated: list[Tensor]) -> None:
        """Find what else an in-place call changed: all that shares memory with what it wrote to."""
        written = {id(tensor) for tensor in mutated}
        families = {memory(tensor) for tensor in mutated} - {0}
        self.changed |= families
        for key, (tensor, old) in self.seen.items():
            # ``.data`` shares the memory of its tensor and not the count of its changes.
            if memory(tensor) in families or version(tensor) != old:
                if key not in written:
                    self.aliased.append(tensor)
                self.seen[key] = (tensor, version(tensor))


def trace(model: nn.Module, call: Callable[[], Any], *, gradients: bool = False) -> Trace:
    """Run a forward pass once and learn what it calls.

    ``gradients`` enables them during the pass: hooks of an explainer may need them.

    Examples
    --------
    >>> model, inputs = nn.Sequential(nn.Linear(4, 8), nn.ReLU()).eval(), torch.zeros(2, 4)
    >>> [call.name for call in trace(model, lambda: model(inputs)).calls]
    ['linear', 'relu']
    """
    calm, undone = undisturbed(random=False, counting=model), _DrawsUndone()
    with calm, calm, undone, undone:
        mode, state = _Tracing(undone.draws), torch.get_rng_state()
        watched, marked = _Watched(model, mode), Marked(model)
        with torch.set_grad_enabled(gradients), watched, watched, marked, marked, mode:
            raw = call()
        random = undone.draws.number > 0 and not torch.equal(state, torch.get_rng_state())
        counting = model if calm.written() else None
        unseen = mode.unseen()
    parameters = {id(parameter) for parameter in model.parameters()}
    for traced in mode.calls:
        traced.weights = tuple((k, t) for k, t in enumerate(traced.inputs) if id(t) in parameters)
    # Views of one tensor share a storage: every call that touches it is volatile.
    families = {memory(tensor) for tensor in mode.aliased} - {0}
    volatile = frozenset(
        index
        for index, traced in enumerate(mode.calls)
        if families
        and any(
            memory(tensor) in families
            for tensor in [*tensors_in(traced.output), *(traced.inputs[k] for k in traced.mutates)]
        )
    )
    return Trace(mode.calls, volatile, raw, random, counting, watched.finished, unseen, marked)


class _Watched(hooked):
    """Which modules are called meanwhile."""

    def __init__(self, model: nn.Module, mode: _Tracing) -> None:
        self.finished: list[ModuleCall] = []
        self._mode = mode
        self._numbers: dict[nn.Module, int] = {}
        self._running: list[tuple[nn.Module, int, tuple[Key, ...]]] = []
        super().__init__(
            [
                (module, self._enter, partial(self._leave, name))
                for name, module in model.named_modules()
                if not isinstance(module, torch.jit.ScriptModule)
            ]
        )

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        with torch._C.DisableTorchFunction():  # the hook's own look is no call of the model
            keys = tuple(key_of(tensor) for tensor in leaves(args, kwargs)[0])
        self._running.append((module, len(self._mode.calls), keys))

    def _leave(self, name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        running = self._running
        while running and running[-1][0] is not module:
            running.pop()  # it was left by an exception that the model caught
        if not running:
            return
        _, first, inputs = running.pop()
        number = self._numbers[module] = self._numbers.get(module, -1) + 1
        with torch._C.DisableTorchFunction():
            outputs = tuple(key_of(tensor) for tensor in tensors_in(output))
        end = len(self._mode.calls)
        self.finished.append(ModuleCall(name, module, number, first, end, inputs, outputs))
