"""checked: the arguments of a function, each held against what its signature says it is."""

from __future__ import annotations

import functools
import inspect
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import numpy as np
import torch
from torch import Tensor

from ._code import coded
from ._kinds import Between
from ._numbers import as_numbers, described

F = TypeVar("F", bound=Callable[..., Any])
# Each is read by a function of its own, which says more about what is wrong with it.
_READ_ELSEWHERE = (
    "UnitsLike",
    "Intervention",
    "IndicesLike",
    "LearningRates",
    "Values",
    "Box",
    "Labels",
)
_NO = object()
_MOST = 10_000  # entries of a list that are looked at


class ArgumentError(TypeError, ValueError):
    """An argument is not what the signature says; both errors, since callers may expect either."""


def checked(function: F) -> F:
    """Refuse an argument that is not what the signature says, in one sentence that names it.

    Numbers of NumPy become Python's own; lists, arrays and columns of tables become tensors where
    the signature says ``Tensor``. A kind such as ``Count`` (see :mod:`memviz.checks`) also says
    the range.

    Raises
    ------
    ArgumentError
        From the decorated function: both a TypeError and a ValueError.

    Examples
    --------
    >>> from memviz.checks import Count
    >>> @checked
    ... def mean_of_first(values: Tensor, k: Count = 1) -> Tensor:
    ...     return values[:k].mean()
    >>> mean_of_first([1.0, 3.0], np.int64(2))
    tensor(2.)
    >>> mean_of_first([1.0, 3.0], k=0)
    Traceback (most recent call last):
    memviz.checks._arguments.ArgumentError: k is 0; give a whole number from 1 to 1000000000.
    """
    if isinstance(function, type):
        function.__init__ = checked(function.__init__)  # type: ignore[misc]
        return function
    signature = inspect.signature(function)
    hints: dict[str, Any] = {}

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # Python itself says what is missing
        if not hints:  # at the first call, when every name in the signature is there
            hints.update(_hints(function, signature))
        for name, value in given.arguments.items():
            if name in hints:
                given.arguments[name] = fitted(name, value, hints[name])
        return function(*given.args, **given.kwargs)

    return cast(F, call)


def _hints(function: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    scope = inspect.unwrap(function).__globals__
    hints: dict[str, Any] = {"": None}
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation = parameter.annotation
        if isinstance(annotation, str):
            if any(alias in annotation for alias in _READ_ELSEWHERE):
                continue
            try:
                annotation = eval(annotation, scope)
            except NameError:  # imported for type checkers only
                continue
        if annotation is not parameter.empty:
            hints[name] = annotation
    return hints


def fitted(name: str, value: Any, hint: Any) -> Any:
    """The value as the hint has it, or one sentence."""
    fit = _fit(value, hint)
    if fit is _NO:
        raise _refusal(name, value, hint)
    return fit


def _refusal(name: str, value: Any, hint: Any) -> Exception:
    options = [part for part in _options(hint) if part is not type(None)]
    wanted = " or ".join(dict.fromkeys(words(part) for part in options))
    made = [part for part in options if getattr(part, "__name__", "") == "Study"]
    kind = made[0] if made else options[0] if len(options) == 1 else None
    if inspect.isclass(kind) and kind.__module__.startswith("memviz."):
        return _not_made(name, value, kind)
    if Tensor in options:
        try:
            as_numbers(name, value, f"give {wanted}")
        except ValueError as error:
            return ArgumentError(str(error))
    if isinstance(value, int | np.integer) and int in options and not isinstance(value, bool):
        wanted += " below 2**63"
    verb = "choose from" if get_origin(kind) is Literal else "give"
    return ArgumentError(f"{name} is {described(value)}; {verb} {wanted}.")


_MAKE = {
    "Study": "build one from {which} model and its data: mv.Study(model, inputs, labels, groups)",
    "Session": "make one: mv.Session(study)",
    "Scores": "make them with a probe, such as memviz.probes.examples.scores_of_model(study), or "
    "by hand: mv.Scores(name, measure, values, examples=...), with units=... if they are of units",
    "Effects": "make them with mv.sweep or mv.estimate",
}


def _not_made(name: str, value: Any, kind: type) -> Exception:
    """The error that an argument is none of memviz's own objects."""
    part = kind.__name__.lower()
    if _fit(getattr(value, part, None), kind) is not _NO:
        hint = f"take its .{part}"
    else:
        which = "this" if isinstance(value, torch.nn.Module) else "the"
        known = _MAKE.get(kind.__name__, "make one as the function's examples do")
        hint = known.format(which=which, kind=kind.__name__)
    article = "" if kind.__name__.endswith("s") else f"{_article(kind.__name__)} "
    called = "" if name == part else f" for {name}"
    got = described(value) if isinstance(value, type) else type(value).__name__
    sentence = f"expected {article}{kind.__name__}{called}, got {got}; {hint}."
    return ArgumentError(coded("E02", sentence))


def _options(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(option for part in get_args(hint) for option in _options(part))
    return (hint,)


def _fit(value: Any, hint: Any) -> Any:
    """The value, converted if it must be; ``_NO`` if it is not what the hint says."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _fit_one_of(value, _options(hint))
    if origin is Annotated:
        base, *ranges = get_args(hint)
        fit = _fit(value, base)
        held = fit is not _NO and all(r.holds(fit) for r in ranges if isinstance(r, Between))
        return fit if held else _NO
    if origin is Literal:
        return value if isinstance(value, str) else _NO  # functions say more about a wrong word
    if hint in _PLAIN:
        return _PLAIN[hint](value)
    if origin is not None:
        return _fit_container(value, origin, get_args(hint))
    if hint is None or hint is type(None):
        return value if value is None else _NO
    if getattr(hint, "_is_protocol", False):
        return value if _follows(value, hint) else _NO
    return value if not inspect.isclass(hint) or isinstance(value, hint) else _NO


def _follows(value: Any, protocol: type) -> bool:
    """Whether an object, and no class, has the methods of a protocol."""
    methods = [name for name in vars(protocol) if not name.startswith("_")]
    return not isinstance(value, type) and all(
        callable(getattr(value, name, None)) for name in methods
    )


def _fit_one_of(value: Any, options: Sequence[Any]) -> Any:
    fits = [fit for fit in (_fit(value, option) for option in options) if fit is not _NO]
    return next((fit for fit in fits if fit is value), fits[0] if fits else _NO)


def _whole(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return _NO
    if isinstance(value, Tensor) and value.dim() == 0 and not value.is_meta:
        value = value.item()
        return value if isinstance(value, int) and not isinstance(value, bool) else _NO
    fits = isinstance(value, int | np.integer) and -(2**63) <= value < 2**63
    return int(value) if fits else _NO


def _real(value: Any) -> Any:
    whole = _whole(value)
    if whole is not _NO:
        return whole
    if isinstance(value, Tensor) and value.dim() == 0 and value.is_floating_point():
        value = value.item() if not value.is_meta else math.nan
    if isinstance(value, float | np.floating):
        return _NO if math.isnan(value) else float(value)
    return _NO


def _flag(value: Any) -> Any:
    if isinstance(value, bool | np.bool_) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    return _NO


def _tensor(value: Any) -> Any:
    try:
        numbers = as_numbers("", value, "")
    except ValueError:
        return _NO
    if isinstance(value, list | tuple) and numbers.dtype == torch.float64:
        return numbers.to(torch.get_default_dtype())  # as torch.tensor reads a list
    return value if isinstance(value, Tensor) else numbers


def _array(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return value
    try:
        numbers = as_numbers("", value, "").detach().cpu()
        # NumPy has no bfloat16; float32 holds each of its numbers.
        return (numbers.float() if numbers.dtype == torch.bfloat16 else numbers).numpy()
    except ValueError:
        return _NO


_PLAIN: dict[Any, Callable[[Any], Any]] = {
    int: _whole,
    float: _real,
    bool: _flag,
    str: lambda value: value if isinstance(value, str) else _NO,
    Tensor: _tensor,
    np.ndarray: _array,
    Any: lambda value: value,
    object: lambda value: value,
}


def _fit_container(value: Any, origin: Any, parts: tuple[Any, ...]) -> Any:
    if origin is Callable:
        return value if callable(value) and _takes(value, parts[0] if parts else ...) else _NO
    if origin is type:
        return value if isinstance(value, type) else _NO
    if not inspect.isclass(origin):
        return value
    if issubclass(origin, Mapping):
        return _fit_mapping(value, origin, parts)
    if isinstance(value, str | bytes | Mapping) or not issubclass(origin, Iterable):
        return value if isinstance(value, origin) and not issubclass(origin, Iterable) else _NO
    if parts[:1] in ((int,), (float,)) or (parts and get_origin(parts[0]) is Annotated):
        value = _listed(value)
    if origin is tuple:
        return _fit_tuple(value, parts)
    if not isinstance(value, origin):
        return _NO
    if not isinstance(value, list | tuple | range) or not parts:
        return value
    return _fit_entries(value, [parts[0]] * min(len(value), _MOST))


def _takes(function: Callable[..., Any], parts: Any) -> bool:
    """Whether a function can be called with this many arguments; yes if that cannot be told."""
    if not isinstance(parts, list):
        return True
    try:
        inspect.signature(function).bind(*parts)
    except TypeError:
        return False
    except ValueError:  # of some built-in functions, nothing is known
        return True
    return True


def _listed(value: Any) -> Any:
    """A list of what holds numbers in another form."""
    if isinstance(value, Tensor | np.ndarray) or hasattr(value, "to_numpy"):
        value = np.asarray(value) if hasattr(value, "to_numpy") else value
        return _NO if getattr(value, "is_meta", False) or value.ndim != 1 else value.tolist()
    return value


def _fit_tuple(value: Any, parts: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple | range):
        return _NO
    if len(parts) == 2 and parts[1] is Ellipsis:
        parts = parts[:1] * len(value)
    if len(parts) != len(value):
        return _NO
    fit = _fit_entries(value, parts)
    return tuple(fit) if fit is not _NO and type(fit) in (list, range) else fit


def _fit_entries(value: Any, parts: Sequence[Any]) -> Any:
    if isinstance(value, range):
        return value if all(_fit(0, part) is not _NO for part in parts[:1]) else _NO
    entries = [_fit(entry, part) for entry, part in zip(value, parts, strict=False)]
    if any(entry is _NO for entry in entries):
        return _NO
    if all(entry is given for entry, given in zip(entries, value, strict=False)):
        return value
    entries += value[len(entries) :]
    return entries if isinstance(value, list) else tuple(entries)


def _fit_mapping(value: Any, origin: Any, parts: tuple[Any, ...]) -> Any:
    if not isinstance(value, origin):
        return _NO
    if len(parts) != 2 or not isinstance(value, dict):
        return value
    entries = {_key(key, parts[0]): _fit(entry, parts[1]) for key, entry in value.items()}
    if _NO in entries or any(entry is _NO for entry in entries.values()):
        return _NO
    return value if all(entries[key] is value[key] for key in entries if key in value) else entries


def _key(key: Any, hint: Any) -> Any:
    return _fit(key, hint)


def _article(name: str) -> str:
    return "an" if name[0] in "AEIOU" else "a"


_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text",
    Tensor: "a tensor",
    np.ndarray: "an array of numbers",
    torch.nn.Module: "a torch.nn.Module",
}


def words(hint: Any, many: bool = False) -> str:
    """What a hint allows, in words: ``"a whole number of at least 1"``.

    Examples
    --------
    >>> from collections.abc import Sequence
    >>> words(Sequence[str]), words(Literal["global", "layer"]), words(float)
    ('a list of text', 'global, layer', 'a number')
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(words(p, many) for p in parts if p is not type(None))
    if origin is Annotated:
        return words(parts[0], many) + "".join(r.words for r in parts[1:])
    if origin is Literal:
        return ", ".join(parts)
    if origin is Callable:
        count = len(parts[0]) if parts and isinstance(parts[0], list) else None
        of = "" if count is None else f" of {count} argument{'s' * (count != 1)}"
        return f"functions{of}" if many else f"a function{of}"
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Mapping):
        held = parts[1] if len(parts) == 2 else Any
        return "a dict" + ("" if held in (Any, object) else f" of {words(held, many=True)}")
    if origin is tuple and Ellipsis not in parts:
        return f"{len(parts)} values: {', '.join(words(p) for p in parts)}"
    if origin is not None:
        return f"a list of {words(parts[0], many=True)}" if parts else "a list"
    if hint is Any or hint is object:
        return "anything"
    own = getattr(hint, "__name__", "value")
    if own.endswith("s"):  # Scores, Effects and Subsets are plurals
        return own
    name = _NAMES.get(hint) or f"{_article(own)} {own}"
    if not many:
        return name
    return name if name in ("text", "True or False") else f"{name.split(' ', 1)[1]}s"
