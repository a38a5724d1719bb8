"""A real Dask cluster of two processes gives one process's tables, also when a worker is killed."""

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
