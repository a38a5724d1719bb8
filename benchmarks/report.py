"""What every benchmark reports besides its figures, and how they are printed."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "captum", "numpy", "timm", "torchvision", "scikit-learn")


def about() -> dict[str, Any]:
    """The machine, the versions and the commit the figures belong to."""
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def parser(name: str, words: str | None) -> argparse.ArgumentParser:
    """The parser of one command; every command can print JSON."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=words)
    made.add_argument("--json", action="store_true", help="print JSON instead of lines")
    return made


def show(result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a result, as JSON or as indented lines."""
    print(json.dumps(result, indent=1) if as_json else "\n".join(lines(result)))


def lines(result: Mapping[str, Any], indent: str = "") -> list[str]:
    r"""A result as lines, nested parts indented.

    Examples
    --------
    >>> print(*lines({"ratio": 2.5, "hook": {"batch": 32, "error": 1e-7}}), sep="\n")
    ratio: 2.5
    hook:
      batch: 32
      error: 1e-07
    """
    found = []
    for key, value in result.items():
        if isinstance(value, Mapping):
            found += [f"{indent}{key}:", *lines(value, indent + "  ")]
        else:
            found.append(f"{indent}{key}: {value}")
    return found


def significant(value: float, digits: int = 3) -> float:
    """A figure with only its significant digits.

    Examples
    --------
    >>> significant(1234.5), significant(0.00012345)
    (1230.0, 0.000123)
    """
    return float(f"{value:.{digits}g}")


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        for line in listed.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty", "--tags"]
    folder = Path(__file__).parent
    try:
        found = subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
