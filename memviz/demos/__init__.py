"""Ready studies: real data, a planted truth and a trained network, without a download."""

from collections.abc import Callable
from typing import Literal, overload

from memviz.demos import digits, early_learning, encoders, example_tied, scenes
from memviz.demos.encoders import Encoders
from memviz.probes.deja_vu.ablation import Retrieval
from memviz.study import Study

_DEMOS: dict[str, Callable[[int], Study | Retrieval | Encoders]] = {
    "digits": digits.load,
    "early_learning": early_learning.load,
    "encoders": encoders.load,
    "example_tied": example_tied.load,
    "scenes": scenes.retrieval,
}


@overload
def demo(name: Literal["scenes"], seed: int = 0) -> Retrieval: ...  # type: ignore[overload-overlap]


@overload
def demo(name: Literal["encoders"], seed: int = 0) -> Encoders: ...  # type: ignore[overload-overlap]


@overload
def demo(name: str = "digits", seed: int = 0) -> Study: ...


def demo(name: str = "digits", seed: int = 0) -> Study | Retrieval | Encoders:
    """Load a ready study by its name; two hold a pair of models instead of one.

    Seeds are independent draws of the split, the wrong labels and the initial weights.
    Seeds 0, 1 and 2 are there at once; another seed is trained on first use. ``"digits"``: a
    network that has memorized 120 wrong labels. ``"example_tied"``: the same with example-tied
    dropout. ``"early_learning"``: 40 % random labels, by cross-entropy. Of the others only seed
    0 is there at once. ``"scenes"``, for ``mv.deja_vu``: a small CLIP model that has memorized
    1,000 captions with their pictures, and its reference. ``"encoders"``, for
    ``memviz.probes.encoders``: two SimCLR encoders of digits that differ by 50 images.

    Raises
    ------
    ValueError : there is no demo of this name, or the seed is not a number from 0 up.

    Examples
    --------
    >>> demo("digits").name
    'digits'
    """
    if name not in _DEMOS:
        names = ", ".join(repr(known) for known in sorted(_DEMOS))
        raise ValueError(f"There is no demo {name!r}; choose from: {names}.")
    return _DEMOS[name](seed)
