"""The scenes' two models trained in other settings: what is varied, and each training kept.

A setting differs from the demo's recipe (``memviz.demos.scenes``) in one thing. Equal settings are
trained once: no masking, the recipe's weight decay, 1,000 pairs and three private words are all the
recipe itself, whose checkpoints are also what early stopping gives.
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

STOPS = (5, 10, 20, 40, EPOCHS)  # Epochs at which the recipe's own training is looked at.


@dataclass(frozen=True)
class Setting:
    """What the scenes are drawn with and the models trained with; the demo's recipe unless given.

    Attributes
    ----------
    pairs : of the target's and of the reference's training set.
    temperature : fixed; learned with None.
    """

    pairs: int = 1000
    private_words: int = 3
    epochs: int = EPOCHS
    caption_masking: float = 0.0
    temperature: float | None = None
    weight_decay: float = WEIGHT_DECAY

    @property
    def stops(self) -> tuple[int, ...]:
        """Epochs whose weights are kept: the last, and of the recipe some before."""
        return STOPS if self == Setting() else (self.epochs,)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.epochs * -(-self.pairs // BATCH_SIZE)


STEPS = Setting().steps


def of_size(pairs: int) -> Setting:
    """So many pairs with the recipe's number of steps, as near as whole epochs come."""
    return Setting(pairs=pairs, epochs=round(STEPS / -(-pairs // BATCH_SIZE)))


@dataclass(frozen=True)
class Point:
    """A setting's models after an epoch, and the value that tells it from its neighbours."""

    value: str
    setting: Setting = Setting()
    epoch: int = EPOCHS


@dataclass(frozen=True)
class Direction:
    """Settings that differ in one thing, in its order."""

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
    """Epoch to both models and the sets; trained on first use, then found in the cache folder.

    Each model is kept as soon as it is trained, so that a long list of settings can be interrupted.

    Examples
    --------
    >>> scenes_of(Setting(private_words=0), seed=0)  # doctest: +SKIP
    """
    sets = _sets(setting.pairs, setting.private_words, seed)
    found = [_states(sets, setting, seed, side, progress) for side in SIDES]
    return {
        epoch: Scenes(sets, *(_model(states[epoch]) for states in found)) for epoch in setting.stops
    }


def is_ready(setting: Setting, seed: int) -> bool:
    """Whether both models of a setting are in the cache folder."""
    kept = (_kept(setting, seed, side) for side in SIDES)
    return all(one.path(f"epoch{epoch:03d}").is_file() for one in kept for epoch in setting.stops)


@lru_cache(maxsize=3)
def _sets(pairs: int, private_words: int, seed: int) -> SceneSets:
    """Drawn once for the settings of a direction, as long as there are few seeds."""
    return draw_scenes(seed, target=pairs, reference=pairs, private_words=private_words)


def _states(
    sets: SceneSets, setting: Setting, seed: int, side: Side, progress: bool
) -> dict[int, State]:
    """Epoch to the state over the captions' tokens."""
    kept = _kept(setting, seed, side)
    stored = {epoch: kept.read(f"epoch{epoch:03d}") for epoch in setting.stops}
    found = {epoch: state for epoch, state in stored.items() if state is not None}
    if len(found) == len(stored):
        return found
    settings = asdict(setting)
    del settings["pairs"], settings["private_words"]
    _, run = fit(
        sets.named()[side], seed, **settings, checkpoint_epochs=setting.stops, progress=progress
    )
    found = {epoch: dict(state) for epoch, state in run.checkpoints.items()}
    try:
        for epoch, state in found.items():
            kept.write(f"epoch{epoch:03d}", state)
    except OSError as error:
        warn_not_kept(error)
    return found


def _kept(setting: Setting, seed: int, side: Side) -> Kept:
    told = {name: str(value) for name, value in asdict(setting).items()}
    name = "-".join(["scene-directions", *told.values(), f"seed{seed}", side])
    return Kept(name, {"recipe": RECIPE, "seed": str(seed), "side": side, **told}, shipped=False)


def _model(state: State) -> Clip:
    """The model over CLIP's whole vocabulary."""
    clip = _any_model()
    model = deepcopy(clip.model)
    model.load_state_dict(whole_vocabulary(state))
    return replace(clip, model=model)


@cache
def _any_model() -> Clip:
    """A model of the recipe, with preprocessing and tokenizer, to put weights into."""
    two = draw_scenes(0, target=2, reference=1, public=1, heldout=1).target
    return fit(two, epochs=1, progress=False)[0]
