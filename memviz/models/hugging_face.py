"""Causal language models of Hugging Face: from files, and from the hub only when asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from memviz.checks import checked, coded, listed, quoted

_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt"),
)


@checked
def causal_lm(
    name: str | Path,
    *,
    download: bool = False,
    gguf_file: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[nn.Module, Any]:
    """A causal language model in eval mode, and its tokenizer.

    Without ``download``, nothing is fetched: ``name`` is a folder, or a model that was downloaded
    before.

    Parameters
    ----------
    name : str or Path
        A folder that ``save_pretrained`` wrote, or a name on the Hugging Face hub such as
        ``"EleutherAI/pythia-70m"``.
    download : bool
        Fetch a model that is not on this machine. The hub's own code is never run.
    gguf_file : str, optional
        A GGUF file in the folder; its weights are expanded to ``dtype``.
    dtype : torch.dtype
        Of the weights. In 16 bits, logits tie more often, and a tie can be decided otherwise.

    Returns
    -------
    model : nn.Module
    tokenizer
        None where a folder has no files of one.

    Raises
    ------
    ImportError
        If transformers is not installed.
    FileNotFoundError
        If the model is not on this machine and ``download`` is False.
    OSError
        If it can't be downloaded.
    ValueError
        If the files hold no causal language model, or lack some of its weights.

    Examples
    --------
    >>> causal_lm("no-such-folder")
    Traceback (most recent call last):
    FileNotFoundError: 'no-such-folder' is no folder and no downloaded model; give a folder, ...
    """
    hf = _transformers()
    is_folder = Path(name).is_dir()
    given: dict[str, Any] = {} if gguf_file is None else {"gguf_file": gguf_file}
    given["local_files_only"] = is_folder or not download
    place = str(name)
    try:
        model, report = hf.AutoModelForCausalLM.from_pretrained(
            place, dtype=dtype, output_loading_info=True, **given
        )
        has_tokenizer = not is_folder or gguf_file is not None or _has_tokenizer(Path(name))
        tokenizer = hf.AutoTokenizer.from_pretrained(place, **given) if has_tokenizer else None
    except OSError as error:
        raise _not_there(place, is_folder, download, error) from error
    except (ValueError, KeyError, ImportError) as error:
        raise ValueError(
            coded(
                "E33",
                f"{quoted(place)} can't be read as a causal language model: {_first_line(error)}",
            )
        ) from error
    missing = sorted(report.get("missing_keys", ()))
    if missing:  # transformers would draw them at random, with no more than a warning
        raise ValueError(
            f"{quoted(place)} lacks {len(missing)} weights of a causal language model "
            f"({listed(missing, 80)}); give a model that was trained with its output layer."
        )
    return model.eval(), tokenizer


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "models of Hugging Face need transformers: pip install 'memviz-torch[hf]'."
        ) from error
    return transformers


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / file).is_file() for file in _TOKENIZER_FILES)


def _not_there(place: str, is_folder: bool, download: bool, error: OSError) -> OSError:
    if is_folder:
        return OSError(f"{quoted(place)} can't be read: {_first_line(error)}")
    if download:
        return OSError(f"{quoted(place)} can't be downloaded: {_first_line(error)}")
    return FileNotFoundError(
        coded(
            "E34",
            f"{quoted(place)} is no folder and no downloaded model; give a folder, or fetch it: "
            "download=True.",
        )
    )


def _first_line(error: Exception) -> str:
    text = str(error.args[0] if error.args else error).strip().split("\n")[0]
    return quoted(text)[1:-1].rstrip(" .:") + "."
