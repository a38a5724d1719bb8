"""Language models that recite: three sizes, trained on the same passages in the same order.

Recipe. Paragraphs of the Python documentation (``pydoc_data.topics``, read from the reader's own
Python) are turned into tokens by a byte-pair tokenizer of 768 tokens. The first 48 tokens of some
paragraphs are repeated: 16 of them 1, 2, 4, 8, 16, 32 and 64 times each; 96 paragraphs are held
out; the rest is background, in pieces of 48 tokens, once each. GPTs of one, two and three blocks
are trained on all this for 12 epochs: AdamW, batches of 64, weight decay 0.1, a cosine learning
rate from 0.005, 0.003 and 0.002, higher for smaller models as in Pythia. All three see the same
batches in the same order.

A seed draws which passages are repeated and held out, the order, and the initial weights. Weights
are rounded to half precision after training, and all figures are of the rounded weights. Rounding
differs with processor and number of threads and grows in training, so a model trained again
recites nearly, not exactly, the same passages.

``python -m memviz.demos.language`` prints the figures of three seeds; ``... train`` trains what
ships again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from memviz import tensor_files
from memviz.models.gpt import GPT
from memviz.probes.extraction import teacher_forced
from memviz.study import Study
from memviz.tasks import Language

from .. import _weight_files as weight_files
from .._kept import Kept, announce, folder_to_prepare, warn_not_kept
from ._passages import CONTINUATION, PROMPT, passages, tokenizer
from ._training import train_language_model

RECIPE = "language-1"  # Change it with any setting: stored weights of another recipe are refused.
CONTEXT = 64


@dataclass(frozen=True)
class Size:
    """Width and depth of a GPT, and the learning rate that it is trained with."""

    width: int
    blocks: int
    learning_rate: float


SIZES: Mapping[str, Size] = {
    "small": Size(32, 1, 5e-3),
    "medium": Size(48, 2, 3e-3),
    "large": Size(96, 3, 2e-3),
}
LARGEST = "large"
EPOCHS = 12
CHECKPOINT_EPOCHS = (3, 6, 9, EPOCHS)
SHIPPED_SEEDS = (0,)
TRAINING_SECONDS = {"small": 15, "medium": 25, "large": 50}  # On two cores; printed before.
MINUTES = sum(TRAINING_SECONDS.values()) / 60  # To prepare one seed on two cores.
_SHIPPED_EPOCHS = {"small": (EPOCHS,), "medium": (EPOCHS,), "large": (6, EPOCHS)}


def load(seed: int = 0, size: str = LARGEST) -> Study:
    """The ready study of a seed: passages with their prompts, and the largest model.

    Groups: ``recited`` (training passages that this seed's largest model gives back token by
    token), ``seen`` (the other training passages) and ``held out``. They are the same for every
    size. ``passages(seed).copies`` says how often each was repeated.

    Seed 0 comes with the package. Another is trained on first use, about a minute a model on two
    cores, and kept in the cache folder.

    Parameters
    ----------
    seed : int
    size : ``"small"``, ``"medium"`` or ``"large"``

    Raises
    ------
    ValueError : the seed is not a whole number from 0 up, there is no such size, the shipped
        weights are damaged, or this Python has another text.

    Examples
    --------
    >>> study = load(seed=0)
    >>> list(study.groups), study.task.prompt, study.task.continuation
    (['recited', 'seen', 'held out'], 16, 32)
    """
    found = passages(seed)
    model, largest = model_of(seed, size), model_of(seed, LARGEST)
    held_out = found.copies == 0
    recited = torch.from_numpy(
        teacher_forced(largest, found.tokens, PROMPT, CONTINUATION, progress=False).memorized
    )
    groups = {"recited": recited & ~held_out, "seen": ~recited & ~held_out, "held out": held_out}
    return Study(
        model,
        {"input_ids": found.tokens},
        found.tokens[:, PROMPT:],
        {name: mask for name, mask in groups.items() if mask.any()},
        class_names=[tokenizer().decode([token]) for token in range(len(tokenizer()))],
        name="language" if size == LARGEST else f"language ({size})",
        summary=f"GPT of {SIZES[size].blocks} block{'s' * (SIZES[size].blocks > 1)} · "
        f"{int((~held_out).sum())} passages repeated 1 to 64 times among "
        f"{len(found.background):,} others",
        checkpoints=StoredOrTrained(seed, size),
        task=Language(PROMPT, CONTINUATION, tokenizer=tokenizer()),
        origin=f'mv.demo("language", seed={seed})'
        if size == LARGEST
        else f"memviz.demos.language.load({seed}, {size!r})",
    )


class Ladder(dict[str, GPT]):
    """Models by name, smallest first; ``origin`` is the line of Python that gives them."""

    origin: str


def ladder(seed: int = 0, *, checkpoints: bool = False) -> Ladder:
    """The models of a seed by name, smallest first: the input of forecasts.

    Parameters
    ----------
    seed : int
    checkpoints : bool
        Add the largest model's earlier checkpoints, before it.

    Examples
    --------
    >>> {name: sum(p.numel() for p in model.parameters()) for name, model in ladder().items()}
    {'small': 39392, 'medium': 96576, 'large': 415584}
    """
    models = Ladder({size: model_of(seed, size) for size in SIZES})
    given = f"{seed}, checkpoints=True" if checkpoints else str(seed)
    models.origin = f"mv.demos.language.ladder({given})"
    if checkpoints:
        largest = models.pop(LARGEST)
        for epoch in _epochs(seed, LARGEST)[:-1]:
            models[f"{LARGEST}, epoch {epoch}"] = model_of(seed, LARGEST, epoch)
        models[LARGEST] = largest
    return models


def model_of(seed: int, size: str, epoch: int | None = None) -> GPT:
    """A trained model in eval mode, read from its file or trained now.

    Raises
    ------
    ValueError : there is no such size or checkpoint.
    """
    if size not in SIZES:
        raise ValueError(f"there is no size {size!r}; choose from {', '.join(map(repr, SIZES))}.")
    epoch = EPOCHS if epoch is None else epoch
    if epoch not in CHECKPOINT_EPOCHS:
        known = ", ".join(map(str, CHECKPOINT_EPOCHS))
        raise ValueError(f"there is no checkpoint of epoch {epoch}; choose from {known}.")
    model = untrained(seed, size)
    model.load_state_dict(_state(seed, size, epoch))
    return model.eval()


def untrained(seed: int, size: str) -> GPT:
    """A model before its training."""
    shape = SIZES[size]
    return GPT(len(tokenizer()), shape.width, shape.blocks, context=CONTEXT, seed=int(seed))


class StoredOrTrained(Mapping[int, weight_files.State]):
    """Epoch to state dict of a model; each is read from its file on access."""

    def __init__(self, seed: int, size: str) -> None:
        self._seed, self._size = seed, size

    def __getitem__(self, epoch: int) -> weight_files.State:
        if epoch not in list(self):
            raise KeyError(epoch)
        return _state(self._seed, self._size, epoch)

    def __iter__(self) -> Iterator[int]:
        return iter(_epochs(self._seed, self._size))

    def __len__(self) -> int:
        return len(_epochs(self._seed, self._size))


def prepare(seeds: Iterable[int] = SHIPPED_SEEDS, folder: str | Path | None = None) -> Path:
    """Train the three sizes from the recipe and write their weights; returns the folder.

    Of shipped seeds only some checkpoints are written, so that the files stay small.
    """
    target = folder_to_prepare() if folder is None else Path(folder)
    for seed in seeds:
        for size in SIZES:
            states = trained(seed, size)
            for epoch in _epochs(seed, size):
                _kept(seed, size, epoch).write(_part(epoch), states[epoch], target, half=True)
            print(f"language, seed {seed}, {size}: written to {target}", flush=True)
    return target


def trained(seed: int, size: str, *, progress: bool = True) -> dict[int, weight_files.State]:
    """Train a model; its checkpoints, rounded as they are stored."""
    model, found = untrained(seed, size), passages(seed)
    states = train_language_model(
        model,
        found.training,
        epochs=EPOCHS,
        learning_rate=SIZES[size].learning_rate,
        seed=int(seed),
        checkpoint_epochs=CHECKPOINT_EPOCHS,
        progress=progress,
    )
    return {
        epoch: {k: v.half().float() if v.ndim > 1 else v for k, v in state.items()}
        for epoch, state in states.items()
    }


def _epochs(seed: int, size: str) -> tuple[int, ...]:
    """The epochs at hand: those that ship, or all that are kept when a model is trained."""
    return _shipped_epochs(seed, size) or CHECKPOINT_EPOCHS


def _shipped_epochs(seed: int, size: str) -> tuple[int, ...]:
    return _SHIPPED_EPOCHS[size] if seed in SHIPPED_SEEDS else ()


def _state(seed: int, size: str, epoch: int) -> weight_files.State:
    kept = _kept(seed, size, epoch)
    state = kept.read(_part(epoch))
    if state is not None:
        return state
    announce(
        f"Training the {size} language model of seed {seed}: about {TRAINING_SECONDS[size]} s on "
        f"two cores, once; the weights are kept in {kept.folder}."
    )
    states = trained(seed, size)
    try:
        for number, checkpoint in states.items():
            kept.write(_part(number), checkpoint, half=True)
    except OSError as error:
        warn_not_kept(error)
    return states[epoch]


def _kept(seed: int, size: str, epoch: int) -> Kept:
    shipped = epoch in _shipped_epochs(seed, size)
    facts = {"recipe": RECIPE, "seed": str(seed), "size": size}
    if not shipped:
        # Another Python may lack paragraphs, and its models are trained on what it has.
        facts["text"] = tensor_files.digest([("training", passages(seed).training)])[:16]
    return Kept(f"language-seed{seed}-{size}", facts, shipped)


def _part(epoch: int) -> str:
    return f"epoch{epoch:02d}"
