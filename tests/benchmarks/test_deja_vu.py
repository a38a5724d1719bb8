"""The déjà vu benchmark answers what it promises; how fast is never tested."""

import sys

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import deja_vu


def test_a_tiny_retrieval_says_all_it_promises():
    pytest.importorskip("faiss")
    found = deja_vu.measure(captions=20, public=300, features=16, k=4, repeats=1)
    assert found["right_ids"] is True and found["identical_ids"] is True
    assert found["ratio_faiss"] > 0 and found["ids_other_than_faiss"] == 0
    assert {"ours_s", "faiss_s", "whole_test_s", "ours_spread"} < set(found)


def test_without_faiss_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    found = deja_vu.measure(captions=5, public=60, features=8, k=2, repeats=1)
    assert found["ratio_faiss"] == "not installed" and found["right_ids"] is True


def test_it_is_one_of_the_commands(capsys):
    assert benchmarks.EVERYTHING["deja_vu"] == ["deja_vu"]
    with pytest.raises(SystemExit):
        benchmarks.main(["deja_vu", "--help"])
    assert "python -m benchmarks deja_vu" in capsys.readouterr().out
