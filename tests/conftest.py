"""What every test gets: one thread, no screen, no network, no widget left open."""

import os

# Before torch is imported anywhere: two OpenMP threads on busy cores spin instead of working.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import sys
from collections.abc import Iterator

import pytest
import torch

import memviz as mv

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(scope="session")
def digits() -> mv.Study:
    """The ready study with the shipped weights, shared: tests must leave it as it was."""
    return mv.demo("digits")


@pytest.fixture(autouse=True)
def _close_what_was_opened() -> Iterator[None]:
    yield
    if "ipywidgets" in sys.modules:
        sys.modules["ipywidgets"].Widget.close_all()
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
