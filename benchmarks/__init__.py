"""Speed and memory benchmarks; never part of the tests."""
