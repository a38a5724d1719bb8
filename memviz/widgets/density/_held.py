"""Which units hold one image: what its M loses when each of them alone is off."""

from __future__ import annotations

import numpy as np

from memviz.engine.sweep import Effects
from memviz.scores import Scores
from memviz.widgets.workbench import Controller

KEY = "opened image"


def held_by_units(controller: Controller, index: int) -> Scores:
    """M of one image less that with each unit ablated; estimates where not swept yet.

    An exact effect takes the place of an estimate; NaN where neither is known.
    """
    units = controller.scores.units
    value, exact = np.full(len(units), np.nan), np.zeros(len(units), bool)
    for table, is_exact in ((controller.estimates, False), (controller.effects, True)):
        effects: Effects | None = table.get(controller.key)
        if effects is None:
            continue
        column, done = int((effects.examples == index).nonzero()[0]), effects.done.numpy()
        value[done] = -effects.margin_change[:, column].double().numpy()[done]
        exact[done] = is_exact
    return Scores(
        f"effect on M of image {index:,}",
        "nats lost",
        value,
        units=tuple(units),
        exact=exact,
        higher="the image's M depends on the unit more",
    )


class HeldBy:
    """The score of the opened image on the unit maps, kept up once it was asked for."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.worn = False
        self._ranked: tuple[int | None, str] = (None, "")  # the image, and the key of the effects

    def show(self, index: int | None) -> None:
        """Rank the units by this image.

        Raises
        ------
        ValueError
            If no image is open, or the sweep has not begun.
        """
        if index is None:
            raise ValueError("no image is open; open one to rank the units by it.")
        if self._controller.key not in self._controller.estimates:
            raise ValueError("the effects of the units are not there yet; wait for the sweep.")
        self.worn = True
        self.swept(index)
        self._controller.choose_score(KEY)

    def follow(self, index: int | None) -> None:
        """Rank them anew if the image or the effects are others."""
        if self._ranked != (index, self._controller.key):
            self.swept(index)

    def swept(self, index: int | None) -> None:
        """Rank them anew, as more effects are known."""
        controller = self._controller
        if self.worn and index is not None and controller.key in controller.estimates:
            self._ranked = index, controller.key
            controller.use({KEY: held_by_units(controller, index)})
