"""The scenes' two models trained in other settings, each training stored.

A setting differs from the demo's recipe (``memviz.demos.scenes``) in one thing. Equal settings are
trained once: no masking, the recipe's weight decay, 1,000 pairs and three private words are all the
recipe itself, and early stopping uses its checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache

from memviz.data.scenes import SceneSets, draw_scenes
from memviz.models.clip import Clip

from .._kept import Kept, warn_not_kept
from .._weight_files import State
from ._recipe import (
    BATCH_SIZE,
    EPOCHS,
    RECIPE,
    SIDES,
    WEIGHT_DECAY,
    Scenes,
    Side,
    fit,
    whole_vocabulary,
)

STOPS = (5, 10, 20, 40, EPOCHS)  # Epochs at which the recipe's own training is evaluated.


@dataclass(frozen=True)
class Setting:
    """How the scenes are drawn and the models trained; the defaults are the demo's recipe.

    Attributes
    ----------
    pairs : number of training pairs of each model.
    temperature : fixed value; None learns it.
    """

    pairs: int = 1000
    private_words: int = 3
    epochs: int = EPOCHS
    caption_masking: float = 0.0
    temperature: float | None = None
    weight_decay: float = WEIGHT_DECAY

    @property
    def stops(self) -> tuple[int, ...]:
        """Epochs whose weights are stored: the last, and for the recipe some earlier ones."""
        return STOPS if self == Setting() else (self.epochs,)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.epochs * -(-self.pairs // BATCH_SIZE)


STEPS = Setting().steps


def of_size(pairs: int) -> Setting:
    """The recipe on another number of pairs, for about as many steps, in whole epochs."""
    return Setting(pairs=pairs, epochs=round(STEPS / -(-pairs // BATCH_SIZE)))


@dataclass(frozen=True)
class Point:
    """A setting's models after an epoch, and the value of what is varied."""

    value: str
    setting: Setting = Setting()
    epoch: int = EPOCHS


@dataclass(frozen=True)
class Direction:
    """Settings that differ in one thing, in ascending order of it."""

    title: str
    points: Sequence[Point]


DIRECTIONS = {
    "size": Direction(
        f"training pairs, about {STEPS} steps",
        [Point(f"{n:,}", of_size(n), of_size(n).epochs) for n in (500, 1000, 2000, 4000)],
    ),
    "masking": Direction(
        "caption masking",
        [Point(str(p), Setting(caption_masking=p)) for p in (0.0, 0.3, 0.5, 0.7, 0.9)],
    ),
    "words": Direction(
        "private words", [Point(str(n), Setting(private_words=n)) for n in (0, 1, 2, 3)]
    ),
    "epochs": Direction(
        f"stopped after epoch, of {EPOCHS}", [Point(str(epoch), epoch=epoch) for epoch in STOPS]
    ),
    "temperature": Direction(
        "temperature",
        [
            Point("learned"),
            *(Point(str(t), Setting(temperature=t)) for t in (0.03, 0.07, 0.2)),
        ],
    ),
    "decay": Direction(
        "weight decay", [Point(str(d), Setting(weight_decay=d)) for d in (0.0, 0.1, 1.0)]
    ),
}


def scenes_of(setting: Setting, seed: int, *, progress: bool = True) -> dict[int, Scenes]:
    """Epoch to both models and the sets; trained on first use, then read from the cache folder.

    Each model is stored as soon as it is trained, so a long list of settings can be interrupted.

    Examples
    --------
    >>> scenes_of(Setting(private_words=0), seed=0)  # doctest: +SKIP
    """
    sets = _sets(setting.pairs, setting.private_words, seed)
    by_side = [_states(sets, setting, seed, side, progress) for side in SIDES]
    return {
        epoch: Scenes(sets, *(_model(states[epoch]) for states in by_side))
        for epoch in setting.stops
    }


def is_ready(setting: Setting, seed: int) -> bool:
    """Whether both models of a setting are in the cache folder."""
    trainings = (_kept(setting, seed, side) for side in SIDES)
    return all(
        kept.path(f"epoch{epoch:03d}").is_file() for kept in trainings for epoch in setting.stops
    )


@lru_cache(maxsize=3)
def _sets(pairs: int, private_words: int, seed: int) -> SceneSets:
    """The scenes of a seed, drawn once for all settings that share them."""
    return draw_scenes(seed, target=pairs, reference=pairs, private_words=private_words)


def _states(
    sets: SceneSets, setting: Setting, seed: int, side: Side, progress: bool
) -> dict[int, State]:
    """Epoch to state dict over the captions' tokens, stored or trained now."""
    kept = _kept(setting, seed, side)
    stored = {epoch: kept.read(f"epoch{epoch:03d}") for epoch in setting.stops}
    states = {epoch: state for epoch, state in stored.items() if state is not None}
    if len(states) == len(stored):
        return states
    settings = asdict(setting)
    del settings["pairs"], settings["private_words"]
    _, run = fit(
        sets.named()[side], seed, **settings, checkpoint_epochs=setting.stops, progress=progress
    )
    states = {epoch: dict(state) for epoch, state in run.checkpoints.items()}
    try:
        for epoch, state in states.items():
            kept.write(f"epoch{epoch:03d}", state)
    except OSError as error:
        warn_not_kept(error)
    return states


def _kept(setting: Setting, seed: int, side: Side) -> Kept:
    values = {name: str(value) for name, value in asdict(setting).items()}
    name = "-".join(["scene-directions", *values.values(), f"seed{seed}", side])
    return Kept(name, {"recipe": RECIPE, "seed": str(seed), "side": side, **values}, shipped=False)


def _model(state: State) -> Clip:
    """The model over CLIP's whole vocabulary."""
    clip = _any_model()
    model = deepcopy(clip.model)
    model.load_state_dict(whole_vocabulary(state))
    return replace(clip, model=model)


@cache
def _any_model() -> Clip:
    """A model of the recipe, with preprocessing and tokenizer, to load weights into."""
    pairs = draw_scenes(0, target=2, reference=1, public=1, held_out=1).target
    return fit(pairs, epochs=1, progress=False)[0]
