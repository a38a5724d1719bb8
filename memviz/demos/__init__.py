"""Ready studies: real data, a planted truth and a trained network, without a download."""

from memviz.demos import digits
from memviz.study import Study

_DEMOS = {"digits": digits.load}


def demo(name: str = "digits", seed: int = 0) -> Study:
    """Load a ready study by its name.

    Seeds are independent draws of the split, the wrong labels and the initial weights.
    Seeds 0, 1 and 2 of ``digits`` are there at once; another seed is trained on first use.

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
