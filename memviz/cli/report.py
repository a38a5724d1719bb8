"""``python -m memviz report``: one page of a study, to send to a colleague."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from memviz.checks import check_place


def report(
    study: str,
    file: Path,
    *,
    study_seed: int,
    units: int | None,
    draws: int | None,
    seed: int,
) -> int:
    """Write the page of a ready study, or of one in the user's own module.

    Raises
    ------
    SystemExit
        With one sentence, if there is no such study or the file can't be written.
    """
    from memviz.probes.deja_vu.ablation import Retrieval
    from memviz.reports import report as write
    from memviz.study import check_study

    try:
        check_place(file)
        found = find(study, study_seed)
    except (OSError, ValueError) as error:
        raise SystemExit(f"report: {error}") from None
    # What the user's own function raises is theirs, and keeps its traceback.
    made = found() if inspect.isroutine(found) else found
    try:
        if not isinstance(made, Retrieval):
            check_study(made)
    except TypeError as error:
        raise SystemExit(f"report: {error}") from None
    try:
        written = write(made, file, units=units, random_draws=draws, seed=seed)
    except (OSError, ValueError) as error:
        raise SystemExit(f"report: {error}") from None
    size = written.stat().st_size / 1e6
    print(f"Wrote {written} ({size:.1f} MB): open it in any browser, or send it as it is.")
    return 0


def find(name: str, seed: int) -> Any:
    """A ready study by its name, or what ``module:name`` is: a study, or a function for it.

    Raises
    ------
    ValueError
        If there is no such study, module or name.
    """
    from memviz.demos import demo

    module, _, wanted = name.partition(":")
    if not wanted:
        return demo(name, seed)
    sys.path.insert(0, "")  # as python -m does for the module that it runs
    try:
        found = getattr(import_module(module), wanted, None)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):  # a package that the module lacks
            raise
        raise ValueError(f"{error}; name a module of this folder, as in mine:study.") from None
    finally:
        sys.path.remove("")
    if found is None:
        raise ValueError(f"the module {module!r} has no {wanted!r}; name a Study in it.")
    return found
