"""The density explorer's part: which trainings are looked at, and what the opened image shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from memviz.checks import quoted
from memviz.widgets.core import Action, Message, Part
from memviz.widgets.workbench import Controller

from . import _messages as messages
from ._figures import Figures, figures, held_out_groups, random_band, times_seen
from ._fits import FitsTable
from ._held import KEY, HeldBy
from ._reconstruction import Made, Models, can_reconstruct, original, reconstructions
from ._table import DensityTable, Estimate, check_table


class DensityExplorer(Part):
    """What every density explorer of a session shows, computed in the background.

    Parameters
    ----------
    controller : Controller

    Attributes
    ----------
    table : DensityTable or None
        The trainings shown.
    rate, epoch : int
        The places, in the table, of the learning rate and epoch looked at.
    """

    name = "density"

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._controller = controller
        self.table: DensityTable | None = None
        self.rate = self.epoch = 0
        self._estimates: dict[tuple[int, int], Estimate] = {}
        self.held = HeldBy(controller)
        self._models: Models | None = None

    @property
    def actions(self) -> Mapping[str, Action]:
        """Look at another learning rate or epoch, and rank units by the opened image."""
        return {
            "density_at": Action(
                lambda request, _: self.look_at(request["rate"], request.get("epoch")),
                *("rate", (int,), "the place of a learning rate"),
            ),
            "density_hold": Action(lambda *_: self.held.show(self.session.opened)),
        }

    def begin(self, table: DensityTable) -> None:
        """Show this table, at its largest learning rate and last epoch."""
        self.table = check_table(table, self.session.study)
        self._estimates = {}
        self._models = Models(self.table, self.session.study)
        self.rate = int(np.argmax(np.asarray(table.rates, float)))
        self.epoch = len(table.epochs) - 1
        self._tell_at()
        self._worker.work("density", self._table_steps(), rank=0)
        self._worker.work("density ratios", self._ratio_steps(), rank=2)
        if self.session.opened is None:
            best = np.nan_to_num(np.asarray(self.estimate().memorization), nan=-np.inf).argmax()
            self.session.open(int(np.asarray(table.examples)[best]))
        else:
            self.example_opened()
        self.state_changed()

    def look_at(self, rate: int, epoch: Any) -> None:
        """Look at the trainings with another learning rate, after other epochs, by their places.

        Raises
        ------
        ValueError
            If the table has no such place.
        """
        rates, epochs = (() if self.table is None else at for at in self._places())
        for what, place, known in (("learning rate", rate, rates), ("epoch", epoch, epochs)):
            whole = isinstance(place, int) and not isinstance(place, bool)
            if not whole or not 0 <= place < len(known):
                raise ValueError(
                    f"there is no {what} at place {quoted(place)}; the table has {len(known)}, "
                    f"0 to {len(known) - 1}."
                )
        self.rate, self.epoch = rate, epoch
        self._tell_at()
        self._start_reconstruction()

    @property
    def worn(self) -> frozenset[str]:
        """The score of the opened image, once it was asked for."""
        return frozenset({KEY} if self.held.worn else ())

    @property
    def sentence(self) -> str:
        """The opened image and the ablated units in words."""
        parts = [self._image_words()]
        readout = self._controller.readout
        if readout is not None and readout.units and self.table is not None:
            shown = figures(self._controller, readout, self._columns())
            words = ", ".join(f"{name} {row.words}" for name, row in shown.rows.items())
            many = len(readout.units)
            parts.append(f"{many} unit{'s' if many > 1 else ''} off: {words}")
        return f"{'; '.join(part for part in parts if part)}." if any(parts) else "starting"

    def estimate(self, rate: int | None = None, epoch: int | None = None) -> Estimate:
        """The estimate at these places, by default at those looked at."""
        assert self.table is not None
        place = (self.rate if rate is None else rate, self.epoch if epoch is None else epoch)
        if place not in self._estimates:
            rates, epochs = self._places()
            self._estimates[place] = self.table.estimate(rates[place[0]], epochs[place[1]])
        return self._estimates[place]

    def drawn(self) -> tuple[Estimate, np.ndarray, int | None, str]:
        """What the still picture shows: estimate, examples, the opened column, and when."""
        assert self.table is not None
        (rates, epochs), opened = self._places(), self.session.opened
        column = None if opened is None else self._columns().get(opened)
        words = f"after {epochs[self.epoch]:,} epochs at {rates[self.rate]:g}"
        return self.estimate(), np.asarray(self.table.examples), column, words

    def code(self) -> str:
        """Python lines that rebuild the current state and open the explorer."""
        session, (rates, epochs) = self.session, self._places()
        units, how = str(session.units), session.how
        rate, epoch = rates[self.rate], epochs[self.epoch]
        own = isinstance(self.table, FitsTable)
        found = f"study.fits[{rate!r}].memorization({epoch!r})"
        lines = [
            "import memviz as mv",
            "",
            f"study = {session.study.origin or '...  # your Study'}",
            *([] if own else ["table = ...  # your DensityTable"]),
            f"print({found if own else f'table.estimate({rate!r}, {epoch!r}).memorization'})",
            f"print(mv.readout(study, {units!r}, {how!r}))",
            "",
            f"view = mv.density(study{'' if own else ', table'})",
        ]
        lines += [f"view.session.use({how!r})"] if how != "zero" else []
        lines += [f"view.session.open({session.opened})"] if session.opened is not None else []
        lines += [f"view.session.ablate({units!r})"] if units else []
        return "\n".join([*lines, "view", ""])

    # Changes of the session ---------------------------------------------------------------------

    def state_changed(self) -> None:
        """Show what the ablated units do, and to the opened image."""
        if self.table is not None:
            self._worker.work("density figures", self._figure_steps(), rank=0)
            self._start_reconstruction()
            self.held.follow(self.session.opened)

    def example_opened(self) -> None:
        """Show the trainings, the neighbours and the reconstruction of the opened image."""
        if self.table is not None:
            self._worker.work("density image", self._image_steps(), rank=0)
            self._start_reconstruction()
            self.held.follow(self.session.opened)

    def swept(self) -> None:
        """Exact effects take the place of estimates."""
        self.held.swept(self.session.opened)

    def ready(self) -> None:
        """Tell now what is still waiting to be told."""
        steps: dict[str, Callable[[], Iterator[None]]]
        steps = {"density": self._table_steps, "density image": self._image_steps}
        steps |= {"density figures": self._figure_steps}
        waiting = [steps[name] for name in steps if self._worker.drop(name)]

        def tell() -> None:
            for go in waiting:
                list(go())

        if waiting:
            self._worker.run_first(tell)

    # What is told -------------------------------------------------------------------------------

    def _table_steps(self) -> Iterator[None]:
        table = self.table
        assert table is not None
        rates, epochs = self._places()
        order = [(i, j) for i in range(len(rates)) for j in range(len(epochs))]
        for place in sorted(order, key=lambda place: place != (self.rate, self.epoch)):
            i, j = place
            message = messages.values_message(i, j, self.estimate(i, j))
            self._controller.tell_and_keep(message, f"density_values {i} {j}")
            yield
        times = times_seen(self.session.study, np.asarray(table.examples))
        self._tell(messages.density_message(table, self._all(), self._held_out_groups(), times))
        yield

    def _image_steps(self) -> Iterator[None]:
        index, table = self.session.opened, self.table
        if index is None or table is None:
            return
        column = self._columns().get(index)
        self._tell(messages.likelihoods_message(index, column, self._all()))
        yield
        found = table.nearest(index)
        if found is not None:
            like = original(self.session.study, index).shape
            pixels = self._controller.pictures.of_inputs(found.generated.reshape(-1, *like))
            self._tell(messages.nearest_message(index, found, pixels))
        yield

    def _ratio_steps(self) -> Iterator[None]:
        ratios = None if self.table is None else self.table.ratios()
        if ratios is not None:
            self._tell(messages.ratios_message(ratios))
        yield

    def _figure_steps(self) -> Iterator[None]:
        if self._controller.readout is None:
            self._controller.ready()
        readout = self._controller.readout
        if readout is None or readout.units != self.session.units:
            return  # the answer on its way starts this again
        version = self.session.version
        shown = figures(self._controller, readout, self._columns())
        self._tell_figures(shown, version)
        yield
        if readout.units:
            self._worker.work("density band", self._band_steps(shown, version), rank=2)

    def _band_steps(self, shown: Figures, version: int) -> Iterator[None]:
        readout = self._controller.readout
        if readout is not None and version == self.session.version:
            self._tell_figures(random_band(shown, readout), version)
        yield

    def _tell_figures(self, shown: Figures, version: int) -> None:
        self._tell(Message({"type": "density_figures", "version": version, **shown.content()}, []))

    def _start_reconstruction(self) -> None:
        if self.session.opened is None or not can_reconstruct(self.session.study):
            self._worker.drop("density reconstruction")
        else:
            self._worker.work("density reconstruction", self._reconstruction_steps(), rank=1)

    def _reconstruction_steps(self) -> Iterator[None]:
        index, version = self.session.opened, self.session.version
        when, models = (self.rate, self.epoch), self._models
        if index is None or models is None:
            return
        rates, epochs = self._places()
        place, replay = (rates[self.rate], epochs[self.epoch]), self.session.replay
        study, own = models.at(*place, replay.study), models.is_own(*place)
        units, how = self.session.units, self.session.how
        for made in reconstructions(study, index, units, how, replay.layers):
            if made.tell and when == (self.rate, self.epoch):
                self._tell_reconstruction(index, version, made, own)
            yield

    def _tell_reconstruction(self, index: int, version: int, made: Made, own: bool) -> None:
        if (index, version) != (self.session.opened, self.session.version):
            return
        content: dict[str, Any]
        content = {"index": index, "version": version, "units": len(self.session.units)}
        content |= {"own": own, "errors": made.errors, "draws": made.draws}
        pixels = self._controller.pictures.of_inputs(torch.stack(list(made.pictures.values())))
        self._tell(messages.reconstruction_message(content, list(made.pictures), pixels))

    def _tell_at(self) -> None:
        self._tell(Message({"type": "density_at", "rate": self.rate, "epoch": self.epoch}, []))

    # What the table says ------------------------------------------------------------------------

    def _places(self) -> tuple[list[float], list[int]]:
        assert self.table is not None
        return list(self.table.rates), list(self.table.epochs)

    def _all(self) -> list[list[Estimate]]:
        rates, epochs = self._places()
        return [[self.estimate(i, j) for j in range(len(epochs))] for i in range(len(rates))]

    def _columns(self) -> dict[int, int]:
        assert self.table is not None
        return {int(e): c for c, e in enumerate(np.asarray(self.table.examples))}

    def _held_out_groups(self) -> list[str]:
        return held_out_groups(self.session.study, self._columns())

    def _image_words(self) -> str:
        index = self.session.opened
        if index is None or self.table is None:
            return ""
        column = self._columns().get(index)
        if column is None:
            return f"Image {index:,} was in no training"
        now, (_, epochs) = self.estimate(), self._places()
        low, high = (float(end[column]) for end in now.null)
        return (
            f"Image {index:,} after {epochs[self.epoch]:,} epochs: "
            f"M {messages.nats(float(now.memorization[column]))} nats, "
            f"null {messages.nats(low)} to {messages.nats(high)}"
        )
