"""How much the engine keeps: the environment says it, and results differ by rounding alone."""

import pytest
import torch

import memviz as mv
from memviz.engine.record import default_memory, memory_allowed
from memviz.models import MLP

CPU = torch.device("cpu")


def test_the_environment_says_how_much_is_kept(monkeypatch):
    monkeypatch.setenv("MEMVIZ_MEMORY", "96")
    assert default_memory(CPU) == 96 * 2**20


@pytest.mark.parametrize(
    ("allowed", "kept"),
    [(None, 2**30), (2**36, 2**30), (12 * 2**30, 2**30), (3 * 2**29, 2**27), (5, 1)],
)
def test_without_it_a_twelfth_of_what_the_process_may_take(monkeypatch, allowed, kept):
    monkeypatch.delenv("MEMVIZ_MEMORY", raising=False)
    monkeypatch.setattr("memviz.engine.record._chunks.memory_allowed", lambda: allowed)
    assert default_memory(CPU) == kept


@pytest.mark.parametrize(
    "name", ["sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"]
)
def test_memory_is_the_share_of_a_container(tmp_path, name):
    whole = memory_allowed(tmp_path)
    assert whole is not None and whole > 2**28
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text("max\n")
    assert memory_allowed(tmp_path) == whole
    file.write_text(f"{2**28}\n")
    assert memory_allowed(tmp_path) == 2**28
    file.write_text(f"{2**62}\n")  # how the older kernels say that there is no limit
    assert memory_allowed(tmp_path) == whole


def test_a_size_that_the_system_does_not_know_is_no_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda _name: -1)
    assert memory_allowed(tmp_path) is None
    file = tmp_path / "sys/fs/cgroup/memory.max"
    file.parent.mkdir(parents=True)
    file.write_text("0")
    assert memory_allowed(tmp_path) is None


@pytest.mark.parametrize("given", ["", "0", "-5", "1.5", "1 GB"])
def test_what_is_no_number_of_mib_is_refused(monkeypatch, given):
    monkeypatch.setenv("MEMVIZ_MEMORY", given)
    with pytest.raises(ValueError, match="MEMVIZ_MEMORY is a whole number of MiB from 1 up, but"):
        default_memory(CPU)


def test_results_differ_by_rounding_alone(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    # A record of some 6 MB: with one MiB to keep, nothing is kept and chunks are small.
    inputs = torch.randn(400, 64, generator=draw)
    labels = torch.randint(10, (400,), generator=draw)
    groups = {"memorized": range(40), "clean": range(40, 400)}
    study = mv.Study(MLP((64, 512, 512, 10), seed=0).eval(), inputs, labels, groups)
    units = mv.UnitSet("fc1:0-15 fc2:0-15")
    found = []
    for mib in ("1024", "1"):
        monkeypatch.setenv("MEMVIZ_MEMORY", mib)
        found.append(mv.sweep(study, units, progress=False).margin_change)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)
