"""CLIP models of open_clip: created, saved and loaded in open_clip's own format, and checked."""

from __future__ import annotations

import json
import logging
import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memviz import tensor_files
from memviz.checks import coded, quoted, read_json

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
_LARGEST_CONFIG = 1 << 24  # bytes


@dataclass(frozen=True, eq=False)
class Clip:
    """An open_clip model with the preprocessing and the tokenizer that belong to it.

    Attributes
    ----------
    model : in eval mode; both towers are ordinary modules, for example
        ``visual.transformer.resblocks.0`` and ``transformer.resblocks.0``.
    preprocess : a PIL image to float32 ``[3, size, size]``.
    tokenizer : captions to integers ``[n, context]``.
    config : ``model_cfg`` and ``preprocess_cfg``, as in ``open_clip_config.json``.

    Raises
    ------
    ValueError : ``model`` is not a module, or ``preprocess`` or ``tokenizer`` is not callable.
    """

    model: nn.Module
    preprocess: Callable[[Any], Tensor]
    tokenizer: Callable[[list[str]], Tensor]
    config: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise ValueError(
                f"model is of type {type(self.model).__name__}; give an open_clip model, or a name "
                "or folder to load_clip."
            )
        for what, needed in (("preprocess", self.preprocess), ("tokenizer", self.tokenizer)):
            if not callable(needed):
                raise ValueError(
                    f"{what} is of type {type(needed).__name__}; give the function that open_clip "
                    "made with the model."
                )

    def __repr__(self) -> str:
        size = getattr(getattr(self.model, "visual", None), "image_size", None)
        height, width = size if isinstance(size, tuple | list) else (size, size)
        context = getattr(self.model, "context_length", None)
        facts = [type(self.model).__name__]
        facts += [f"images of {height} × {width}"] if size else []
        facts += [f"captions of {context} tokens"] if context else []
        facts += [f"{sum(p.numel() for p in self.model.parameters()):,} parameters"]
        return f"Clip({', '.join(facts)})"


def create_clip(
    model_cfg: Mapping[str, Any], preprocess_cfg: Mapping[str, Any] | None = None, *, seed: int = 0
) -> Clip:
    """Create an untrained model with open_clip's factory; the global random state is not touched.

    Parameters
    ----------
    model_cfg : ``embed_dim``, ``vision_cfg`` and ``text_cfg``, in open_clip's format.
    preprocess_cfg : ``mean``, ``std`` and whatever else open_clip's preprocessing accepts.
    seed : fixes the initial weights.

    Examples
    --------
    >>> vision = {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
    >>> text = {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    >>> clip = create_clip({"embed_dim": 32, "vision_cfg": vision, "text_cfg": text})
    >>> clip
    Clip(CLIP, images of 16 × 16, captions of 8 tokens, 1,615,297 parameters)
    >>> clip.tokenizer(["a seven"]).shape
    torch.Size([1, 8])
    """
    config = {"model_cfg": dict(model_cfg), "preprocess_cfg": dict(preprocess_cfg or {})}
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        (Path(folder) / CONFIG).write_text(json.dumps(config), encoding="utf-8")
        return _open(f"local-dir:{folder}", config, load_weights=False)


def save_clip(folder: str | Path, clip: Clip) -> Path:
    """Write open_clip's ``local-dir`` folder: configuration, preprocessing and weights.

    ``open_clip.create_model_and_transforms("local-dir:FOLDER")`` opens it anywhere. Each file is
    written atomically. Returns the folder.
    """
    target = Path(folder)
    tensor_files.make_folder(target)
    text = json.dumps(clip.config, indent=2) + "\n"
    tensor_files.write(target / WEIGHTS, clip.model.state_dict(), {})
    with tensor_files.atomic_write(target / CONFIG) as part:
        part.write_text(text, encoding="utf-8")
    return target


def load_clip(
    name: str | Path,
    pretrained: str | Path | None = None,
    *,
    download: bool = False,
    device: str | torch.device = "cpu",
) -> Clip:
    """Load an open_clip model, refusing weights of another image size or context length.

    open_clip itself silently resizes the position embeddings of such weights, which gives a model
    that was never trained.

    Parameters
    ----------
    name : a folder with ``open_clip_config.json`` (with or without ``local-dir:`` before it), or
        a name that open_clip knows, for example ``"ViT-B-32"``.
    pretrained : with a name, a file of weights, or a tag such as ``"openai"``.
    download : allows the weights of a tag to be downloaded.
    device : where to put the model.

    Raises
    ------
    FileNotFoundError : no such folder or name, no configuration or no weights.
    ValueError : no ``pretrained``, a tag without ``download``, or weights that do not fit.

    Examples
    --------
    >>> load_clip("ViT-B-32", "openai")
    Traceback (most recent call last):
    ValueError: 'openai' is a tag: its weights would be downloaded; say download=True, or give ...
    """
    import open_clip

    place = str(name).removeprefix("local-dir:")
    if Path(place).is_dir():
        config, weights = _read_config(Path(place)), _weights_in(Path(place))
        return _open_checked(f"local-dir:{place}", config, weights, device=device)
    if str(name).startswith("local-dir:") or place not in open_clip.list_models():
        raise FileNotFoundError(
            f"{quoted(place)} is neither a folder with {CONFIG} nor a model that open_clip knows; "
            "open_clip.list_models() names them."
        )
    config = {"model_cfg": open_clip.get_model_config(place)}
    if pretrained is None:
        raise ValueError(
            f"{place} needs weights; set pretrained= to a file or to one of the tags "
            f"{', '.join(open_clip.list_pretrained_tags_by_model(place)) or '(there are none)'}."
        )
    if not Path(pretrained).is_file():
        if str(pretrained) not in open_clip.list_pretrained_tags_by_model(place):
            raise FileNotFoundError(
                f"there is no file and no tag {quoted(str(pretrained))} for {place}."
            )
        if not download:
            raise ValueError(
                f"{quoted(str(pretrained))} is a tag: its weights would be downloaded; say "
                "download=True, or give a file."
            )
        return _open(place, config, pretrained=str(pretrained), device=device)
    weights = Path(pretrained)
    return _open_checked(place, config, weights, pretrained=str(weights), device=device)


def _open(name: str, config: Mapping[str, Any], **settings: Any) -> Clip:
    import open_clip

    # open_clip draws initial weights even when it then loads others.
    with _quiet(), torch.random.fork_rng(devices=[], enabled=settings.get("load_weights", True)):
        model, _, preprocess = open_clip.create_model_and_transforms(name, **settings)
        tokenizer = open_clip.get_tokenizer(name)
    return Clip(model.eval(), preprocess, tokenizer, config)


def _open_checked(name: str, config: Mapping[str, Any], weights: Path, **settings: Any) -> Clip:
    """Open a model with the weights of a file, or say why they do not fit."""
    empty = _open(name, config, load_weights=False)
    _refuse_other_shapes(empty, weights)
    try:
        return _open(name, config, **settings)
    except RuntimeError as error:
        # torch's own message lists every tensor. Names can't be compared beforehand, since
        # open_clip renames some while it loads.
        if "state_dict" not in str(error):
            raise
        raise ValueError(
            f"{weights.name} {_difference(_shapes(weights), empty.model)}; give the configuration "
            "that belongs to the weights."
        ) from None


def _difference(there: Mapping[str, Any], model: nn.Module) -> str:
    """How a file differs from a model: in the depth of a stack, or else in the first tensor."""
    here = model.state_dict()
    counts = [Counter(stack for stack, _ in _layers(names)) for names in (there, here)]
    for stack in counts[1]:
        trained, needed = (count[stack] for count in counts)
        if trained and trained != needed:
            return f"holds {trained} layers of {stack}, and this model has {needed}"
    for name in [*here, *there]:
        if name not in there:
            return f"holds no {quoted(name)}, which this model has"
        if name not in here:
            return f"holds {quoted(name)}, which this model does not have"
    return "does not fit this model"


def _layers(names: Iterable[str]) -> set[tuple[str, str]]:
    """The numbered layers in tensors' names, as pairs of stack and number."""
    return {(m[1], m[2]) for name in names if (m := re.match(r"(.*?)\.(\d+)\.", name))}


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = read_json(folder / CONFIG, _LARGEST_CONFIG)
        config["model_cfg"]["vision_cfg"], config["model_cfg"]["text_cfg"]
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{folder} holds no {CONFIG}; give the folder of an open_clip model."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{quoted(str(folder / CONFIG))} is not an open_clip configuration ({error}); give the "
            "folder of an open_clip model."
        ) from None
    return dict(config)


def _weights_in(folder: Path) -> Path:
    for name in (WEIGHTS, "open_clip_pytorch_model.bin", "open_clip_pytorch_model.safetensors"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder} holds no {WEIGHTS}; save the weights there.")


def _refuse_other_shapes(clip: Clip, path: Path) -> None:
    """Refuse a file whose tensors have other shapes than the model's."""
    there = _shapes(path)
    for name, tensor in clip.model.state_dict().items():
        here, other = list(tensor.shape), there.get(name)
        if other is None or other == here or math.prod(other) == tensor.numel() == 1:
            continue  # open_clip itself refuses missing tensors, and reshapes scalars
        trained, needed = _meaning(clip.model, name, other, here)
        raise ValueError(
            f"{path.name} was trained with {trained}, and this model has {needed}; give the "
            "configuration that belongs to the weights."
        )


def _shapes(path: Path) -> dict[str, list[int]]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                return {k: file.get_slice(k).get_shape() for k in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{path} can't be read ({error}); save the weights again.") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise ValueError(
            coded(
                "E33",
                f"{path} can't be read as weights ({error}); give a file of open_clip weights.",
            )
        ) from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    return {
        name.removeprefix("module."): list(tensor.shape)
        for name, tensor in state.items()
        if isinstance(tensor, Tensor)
    }


def _meaning(model: nn.Module, name: str, *shapes: list[int]) -> list[str]:
    """What each of a tensor's shapes says about the model, in words."""
    same_width = shapes[0][1:] == shapes[1][1:]
    if not (name.endswith("positional_embedding") and same_width):
        return [f"{name} of shape {shape}" for shape in shapes]
    if not name.startswith("visual"):
        return [f"a context length of {shape[0]}" for shape in shapes]
    patch = getattr(model.visual, "patch_size", None)
    if patch is None:
        return [f"{shape[0] - 1} patches per image" for shape in shapes]
    return [f"an image size of {math.isqrt(shape[0] - 1) * patch[0]} pixels" for shape in shapes]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence open_clip's warning that a model has no weights, which is intended here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
