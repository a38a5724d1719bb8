"""Let torchvision be imported where its CUDA build meets a CPU-only torch.

The package index has only CUDA builds of torchvision for Linux. Beside a CPU-only torch their
compiled extension can't be loaded, so two operators stay undefined, and torchvision's import ends
in "operator torchvision::nms does not exist". Everything but these compiled operators works once
their names are known. So, right before the first ``import torchvision``, they are declared here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

# A Library takes its definitions with it when it is collected, so it is kept here.
_libraries: list[Any] = []


class _Finder(MetaPathFinder):
    """Finds nothing; is only told in time that torchvision is about to be imported."""

    asked = False

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname == "torchvision" and not self.asked:
            # A flag, not sys.meta_path.remove(self): the import system is walking that list now.
            self.asked = True
            spec = PathFinder.find_spec(fullname)
            for folder in (spec.submodule_search_locations if spec else None) or []:
                _mend(Path(folder))
        return None


def install() -> None:
    """Watch for ``import torchvision``; without effect where nothing needs mending."""
    waiting = any(isinstance(finder, _Finder) for finder in sys.meta_path)
    if sys.platform == "linux" and "torchvision" not in sys.modules and not waiting:
        sys.meta_path.insert(0, _Finder())


def mended() -> bool:
    """Whether the operators had to be declared in this process."""
    return bool(_libraries)


def _mend(folder: Path) -> None:
    """Declare the operators if the compiled extension in `folder` can't be loaded."""
    extension = next((p for n in ("_C.so", "_C_stable.so") if (p := folder / n).exists()), None)
    if extension is None:
        return
    import torch

    if torch.version.cuda or torch.version.hip:
        return
    try:
        torch.ops.load_library(str(extension))
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in _OPERATORS:
            if not hasattr(torch.ops.torchvision, name):
                library.define(name + _SCHEMA)
        _libraries.append(library)
