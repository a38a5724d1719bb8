"""A real Dask cluster of two processes gives one process's tables, also when a worker is killed."""

from pathlib import Path

import pytest

from benchmarks import cluster

TRAININGS = 6


@pytest.mark.slow
def test_two_workers_give_the_table_of_one_process_and_a_killed_one_costs_its_training() -> None:
    pytest.importorskip("distributed")
    found = cluster.measure(trainings=TRAININGS)
    for name in cluster.TABLES:
        row = found[name]
        assert row["identical"] and row["begun"] == TRAININGS, name
        assert row["killed"] == 1 and row["identical_after_kill"], name
        assert row["begun_after_kill"] == TRAININGS + 1, name


def test_of_two_trainings_that_look_at_once_one_is_fatal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    monkeypatch.setattr(cluster.os, "kill", lambda process, _: killed.append(process))
    monkeypatch.setattr(Path, "exists", lambda _: False)  # as seen just before another makes it
    fit = cluster.Counted(lambda: "fitted", str(tmp_path), fatal=0, parent=-1)
    assert [fit(), fit()] == ["fitted", "fitted"]
    assert len(killed) == 1
