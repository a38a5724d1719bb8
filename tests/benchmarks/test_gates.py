"""The gates benchmark answers what it promises; how fast is never tested."""

from benchmarks import gates, page


def test_a_tiny_run_has_equal_answers_and_both_ratios() -> None:
    found = gates.measure(examples=20, repeats=1, sampled=2)
    for name in gates.NETWORKS:
        facts = found[name]
        assert facts["engine"] == "packed"
        assert facts["packed_equal"]
        assert facts["max_error"] < 1e-6
        assert min(facts["packed_speedup"], facts["sweep_speedup"]) > 0
    for key in ("packed_speedup", "sweep_speedup"):
        assert found[key] == min(found[name][key] for name in gates.NETWORKS)
    assert "| dense | 9,000 | 20 | packed |" in page.page({"gates": found})
