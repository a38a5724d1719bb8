"""The capacity playground as a widget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from memviz.checks import Count, Seed, checked, described, quoted
from memviz.models.memorizers import Memorizer
from memviz.study import Study
from memviz.tasks.labels import class_labels
from memviz.widgets.core import BaseView

from ._controller import CapacityController
from ._points import KINDS, Own
from ._settings import Settings
from ._still import still

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class CapacityView(BaseView):
    """The playground; ``session`` holds the units that are off in the network now shown."""

    controller: CapacityController

    @property
    def inputs(self) -> Tensor:
        """The points, float64 ``[n, d]``."""
        return self.controller.network.points.inputs

    @property
    def signs(self) -> Tensor:
        """Their signs, float64 ``[n]``."""
        return self.controller.network.points.signs

    @property
    def memorizer(self) -> Memorizer:
        """The construction, with its owners, in float64."""
        return self.controller.network.memorizer

    @property
    def study(self) -> Study:
        """Network and points, for every other function of memviz."""
        return self.controller.network.study

    def set(self, **settings: object) -> None:
        """Change settings, one after another: ``n``, ``features``, ``first``, ``second`` and so on.

        Raises
        ------
        ValueError
            If there is no such setting or value.
        """
        for key, value in settings.items():
            self.controller.set(key, value)

    def __repr__(self) -> str:
        return f"memviz capacity playground. {self.controller.sentence}"

    def _figure(self) -> Figure | None:
        controller = self.controller
        if controller.reading is None:
            return None
        return still(controller.network, controller.reading, controller.compared)


@checked
def capacity(
    inputs: Tensor | None = None,
    labels: Tensor | None = None,
    *,
    points: str = "crescents",
    n: Count | None = None,
    features: Count = 2,
    method: str = "yun",
    widths: tuple[int, int] | None = None,
    precision: str = "float64",
    seed: Seed = 0,
) -> CapacityView:
    """Build a network that memorizes some points, and take out the units that own them.

    Beside the function along the line that the points are projected on stand the decision regions
    of all constructions (in two dimensions), their errors in float64 and float32, and what each
    says of unseen points of the same kind.

    Parameters
    ----------
    inputs : float ``[n, d]``, optional
        Your own points: the first ``n`` are memorized, the rest are the unseen ones.
    labels : ``[n]``, optional
        Of them, 0 and 1, or -1 and 1.
    points : {"crescents", "ring", "random", "digits"}
        Where no points are given. Digits are images of 3 (+) and 8 (-), projected onto the first
        of their 64 principal directions.
    n : int, optional
        From 2 to 100; 24 by default.
    features : int
        Dimensions, from 1 to 20; of digits to 64.
    method : {"yun", "yun relu", "yun4", "zhang", "bubeck", "yu", "narrow"}
        Of :func:`~memviz.models.memorizers.construct_memorizer`; "yun" with hard-tanh units.
    widths : (first, second), optional
        Of the constructions of Yun et al.
    precision : {"float64", "float32"}
    seed : int
        From 0 to 999.

    Raises
    ------
    ValueError
        If a setting is none of these, the points don't fit the method, or the labels are not of two
        classes.

    Examples
    --------
    >>> with capacity(n=12) as view:
    ...     view.controller.ready()
    ...     view
    memviz capacity playground. 12 points in 4 + 3 units: 12 of 12 are right. Take out an owner...
    """
    own = _own(inputs, labels)
    settings = Settings(kind="own" if own else "crescents", method="yun")
    if own is not None:
        settings = Settings(kind="own", features=own.inputs.shape[1], n=min(24, len(own.inputs)))
    given: dict[str, object] = {} if own is not None else {"kind": points, "features": features}
    if own is None and points not in KINDS:
        raise ValueError(f"points is {quoted(points)}; choose from {', '.join(KINDS)}.")
    given |= {"method": method, "precision": precision, "seed": seed}
    given |= {"n": n} if n is not None else {}
    for key, value in given.items():
        settings = settings.changed(key, value, own)
    if widths is not None:
        settings = settings.with_widths(widths, own)
    return CapacityView(CapacityController(settings, own), "capacity")


def _own(inputs: Tensor | None, labels: Tensor | None) -> Own | None:
    if inputs is None and labels is None:
        return None
    if inputs is None or labels is None:
        raise ValueError("inputs and labels belong together; give both, or neither.")
    if inputs.dim() < 2 or len(inputs) < 2:
        raise ValueError(f"inputs is {described(inputs)}; give at least two rows, [n, d].")
    given = class_labels(labels, "labels")
    if len(given) != len(inputs):
        raise ValueError(f"labels has {len(given):,} entries for {len(inputs):,} inputs.")
    known = set(given.unique().tolist())
    if not (known <= {0, 1} or known <= {-1, 1}) or len(known) < 2:
        raise ValueError(f"labels holds {quoted(sorted(known)[:9])}; give 0 and 1, both of them.")
    return Own(inputs.flatten(1).double(), (given > 0).double() * 2 - 1)
