"""Lines of Python that give the figures of the playground without it."""

from __future__ import annotations

from memviz.units import UnitSet

from ._settings import METHODS, Settings


def code(settings: Settings, units: UnitSet, own: bool) -> str:
    """Build the network with the plain functions, take the units out, and open the view."""
    kind, activation, _ = METHODS[settings.method]
    widths = f" {settings.widths}," if settings.widths and kind in ("yun", "yun4") else ""
    values = "(view.signs > 0).long()" if kind == "yun4" else "view.signs"
    task = "Classification" if kind == "yun4" else "Binary"
    given = {"n": settings.n, "method": settings.method, "widths": settings.widths}
    given |= {"precision": settings.precision, "seed": settings.seed}
    if not own or settings.kind != "own":
        given = {"points": settings.kind, "features": settings.features} | given
    arguments = ", ".join(f"{key}={value!r}" for key, value in given.items())
    first = "inputs, labels = ...  # your points\n" if own else ""
    made = "inputs, labels, " if own else ""
    return (
        "import memviz as mv\n"
        "from memviz.models.memorizers import construct_memorizer\n\n"
        f"{first}"
        f"view = mv.capacity({made}{arguments})\n"
        "memorizer = construct_memorizer(\n"
        f"    view.inputs, {values},{widths} method={kind!r}, activation={activation!r}, "
        f"seed={settings.seed}\n)\n"
        "print(memorizer)\n"
        'study = mv.Study(memorizer.model, view.inputs, view.signs > 0, {"points": '
        f"range({settings.n})}}, task=mv.tasks.{task}())\n"
        f"with mv.ablate(study, {str(units)!r}) as model:\n"
        "    print(model(view.inputs))\n\n"
        f"view.session.ablate({str(units)!r})\n"
        "view\n"
    )
