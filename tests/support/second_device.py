"""A second device without a GPU: torch's own extension point, with memory of the CPU behind it.

``DEVICE`` is a device of torch's kind ``privateuse1``, as plug-ins for other accelerators are, so
tensors on it are plain ``torch.Tensor``s with storages, views and autograd of their own. Each of
their operations runs the CPU's kernel on the same memory. It is refused where CUDA refuses it: a
tensor of the CPU beside one of the device, unless it is a number (0-dim) in a pointwise operation
or an index; a CPU generator that shall draw on the device. The device draws from a generator of
its own.

``register`` is called before a test that needs it, not when tests are collected: the device stays
registered in the process, since torch has no way back. It needs no compiler: DLPack hands memory of
the CPU over under the device's name.
"""

from __future__ import annotations

import ctypes
from contextlib import nullcontext
from functools import cache, partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils import backend_registration

NAME = "standin"
DEVICE = torch.device("privateuseone", 0)  # it has its name from the registration on
_MIXED = "Expected all tensors to be on the same device, but found at least two devices, {} and {}!"
_GENERATOR = "Expected a '{}' device type for generator but found '{}'"
_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
_DLPACK_EXTENSION = 12  # kDLExtDev of dlpack.h: torch reads it as privateuse1
_aten = torch.ops.aten


class _Module:
    """What ``torch.standin`` offers: the same names as ``torch.cuda``, for one device."""

    def __init__(self) -> None:
        self.generator = torch.Generator()

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def init(self) -> None:
        pass

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def device(self, device: Any) -> nullcontext[None]:
        return nullcontext()

    def get_rng_state(self, device: Any = None) -> Tensor:
        return self.generator.get_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        self.generator.set_state(state)

    def get_rng_state_all(self) -> list[Tensor]:
        return [self.generator.get_state()]

    def set_rng_state_all(self, states: list[Tensor]) -> None:
        self.generator.set_state(states[0])


def to_device(value: Tensor) -> Tensor:
    """Hand a CPU tensor's memory to the device, without a copy; the storage stays alive with it."""
    flat = torch.empty(0, dtype=value.dtype).set_(value.untyped_storage())
    capsule = torch._C._to_dlpack(flat)
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    # DLManagedTensor begins with the address of the data; the device's kind is the next field.
    kind = ctypes.c_int32.from_address(get(capsule, b"dltensor") + ctypes.sizeof(ctypes.c_void_p))
    kind.value = _DLPACK_EXTENSION
    moved = torch._C._from_dlpack(capsule)
    moved.untyped_storage().of_cpu = value.untyped_storage()
    return _view(moved, value)


def to_cpu(value: Tensor) -> Tensor:
    """The same memory as a tensor of the CPU."""
    memory = value.untyped_storage().of_cpu
    known = torch.empty(0, dtype=value.dtype)
    return known.set_(memory, value.storage_offset(), value.shape, value.stride())


def _view(base: Tensor, like: Tensor) -> Tensor:
    """A view of a device tensor with the sizes and strides of another."""
    if like.dtype != base.dtype:
        base = _aten.view.dtype.redispatch(_CPU, base, like.dtype)
    where = list(like.shape), list(like.stride()), like.storage_offset()
    return _aten.as_strided.default.redispatch(_CPU, base, *where)


def _on_device(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == NAME


def _run(op: torch._ops.OpOverload, *args: Any, **kwargs: Any) -> Any:
    """Every operation of the device: checked as CUDA does, then the CPU's kernel."""
    _check(op, args, kwargs)
    originals: list[tuple[Tensor, Tensor]] = []

    def to_kernel(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [to_kernel(item) for item in value]
        if isinstance(value, torch.device) and value.type == NAME:
            return torch.device("cpu")
        if _on_device(value):
            originals.append((value, to_cpu(value)))
            return originals[-1][1]
        return value

    def from_kernel(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(from_kernel(item) for item in value)
        return from_cpu(value) if isinstance(value, Tensor) else value

    def from_cpu(value: Tensor) -> Tensor:
        for original, own in originals:
            if value is own:
                return original
        for original, own in originals:
            if _address(own) == _address(value) != 0:
                return _view(original, value)
        return to_device(value)

    given = [to_kernel(value) for value in _numbers_as_tensors(op, args)]
    named = {name: to_kernel(value) for name, value in kwargs.items()}
    draws = torch.Tag.nondeterministic_seeded in op.tags
    with torch._C.DisableTorchFunction(), _own_draws() if draws else nullcontext():
        result = op(*given, **named)
    for original, own in originals:
        if original.shape != own.shape or original.stride() != own.stride():
            _point_to(original, own)
    return from_kernel(result)


def _numbers_as_tensors(op: torch._ops.OpOverload, args: tuple[Any, ...]) -> list[Any]:
    """Torch hands over 3 for the tensor it made of ``x.remainder_(3)``, and asks for a tensor."""
    if torch._C._should_allow_numbers_as_tensors(op._schema.name.removeprefix("aten::")):
        return list(args)
    first = next((value for value in args if isinstance(value, Tensor)), None)
    return [
        torch.tensor(value, dtype=torch.result_type(first, value))
        if isinstance(value, bool | int | float) and isinstance(argument.type, torch.TensorType)
        else value
        for value, argument in zip(args, op._schema.arguments, strict=False)
    ]


def _address(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()


def _point_to(original: Tensor, own: Tensor) -> None:
    """Follow the CPU's tensor, which the kernel gave other sizes or other memory."""
    moved = to_device(own)
    where = own.storage_offset(), list(own.shape), list(own.stride())
    set_ = _aten.set_.source_Storage_storage_offset
    set_.redispatch(_CPU, original, moved.untyped_storage(), *where)


class _own_draws:
    """Draw from the device's generator, whatever the CPU's kernel draws from."""

    def __enter__(self) -> None:
        self._before = torch.default_generator.get_state()
        torch.default_generator.set_state(_MODULE.generator.get_state())

    def __exit__(self, *_: object) -> None:
        _MODULE.generator.set_state(torch.default_generator.get_state())
        torch.default_generator.set_state(self._before)


# The arguments that may lie on the CPU beside tensors of the device.
_FREE = {
    "aten::index": ("indices",),
    "aten::index_put": ("indices",),
    "aten::index_put_": ("indices",),
    "aten::_index_put_impl_": ("indices",),
    "aten::_pack_padded_sequence": ("lengths",),
}
# Their numbers (0-dim) may lie on the CPU, as in all pointwise operations.
_TAKES_NUMBERS = {
    *("aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::fill_"),
    *("aten::masked_fill", "aten::masked_fill_"),
}


@cache
def _takes_numbers(op: torch._ops.OpOverload) -> bool:
    """Whether numbers of the CPU are let in; torch tags the call without ``out=`` alone."""
    plain = getattr(op.overloadpacket, _plain_name(op._overloadname), op)
    return torch.Tag.pointwise in {*op.tags, *plain.tags} or op._schema.name in _TAKES_NUMBERS


def _plain_name(overload: str) -> str:
    return "default" if overload == "out" else overload.removesuffix("_out")


def _check(op: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    schema = op._schema
    numbers = _takes_numbers(op)
    named = {**dict(zip((a.name for a in schema.arguments), args, strict=False)), **kwargs}
    written = {a.name for a in schema.arguments if a.alias_info and a.alias_info.is_write}
    for name, value in named.items():
        if isinstance(value, torch.Generator) and value.device.type != NAME:
            raise RuntimeError(_GENERATOR.format(NAME, value.device.type))
        if name in _FREE.get(schema.name, ()):
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, Tensor) and item.device.type != NAME:
                number = numbers and item.dim() == 0 and item.device.type == "cpu"
                if name in written or not number:
                    raise RuntimeError(_MIXED.format(f"{NAME}:0", item.device))


def _copy(into: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """``copy_`` alone passes from one device to the other."""
    to = to_cpu(into) if _on_device(into) else into
    of = to_cpu(source) if _on_device(source) else source
    with torch._C.DisableTorchFunction():
        _aten.copy_.default.redispatch(_CPU, to, of, non_blocking)
    return into


def _clone_storage(self: torch.UntypedStorage) -> torch.UntypedStorage:
    """``copy.deepcopy`` of a tensor copies its storage, for which torch asks for an allocator."""
    if self.device.type != NAME:
        return _CLONE(self)
    own = self.of_cpu.clone()
    return to_device(torch.empty(0, dtype=torch.uint8).set_(own)).untyped_storage()


def _of_other_kernels() -> list[torch._ops.OpOverload]:
    """Those that torch would put together from others here, where the CPU has its own kernel."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    kinds = "CompositeExplicitAutograd", "CompositeImplicitAutograd"
    ops = [_aten.convolution.default, _aten.convolution_backward.default]
    for name in torch._C._dispatch_get_all_op_names():
        if has_kernel(name, "CPU") and any(has_kernel(name, kind) for kind in kinds):
            packet, _, overload = name.removeprefix("aten::").partition(".")
            if name.startswith("aten::"):
                ops.append(getattr(getattr(_aten, packet), overload or "default"))
    return ops


_CLONE = torch.storage._StorageBase.clone
_MODULE = _Module()
_LIBRARIES: list[torch.library.Library] = []


@cache
def register() -> None:
    """Give torch the device; once in a process."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, _MODULE)
    every, own = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    _LIBRARIES.extend((every, own))
    every.fallback(_run, "PrivateUse1")
    own.impl("copy_", _copy, "PrivateUse1")
    for op in _of_other_kernels():
        own.impl(op, partial(_run, op), "PrivateUse1")
    for name in _aten.set_.overloads():
        op = getattr(_aten.set_, name)
        own.impl(op, partial(op.redispatch, _CPU), "PrivateUse1")
    mock.patch.object(torch.storage._StorageBase, "clone", _clone_storage).start()
