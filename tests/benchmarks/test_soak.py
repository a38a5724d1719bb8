"""A soak of seconds: nothing wrong is told, nothing left unanswered, nothing left behind."""

import json
from pathlib import Path

import pytest

from benchmarks import soak
from benchmarks.soak_world import Channel

PARTS = ["--plain-calls", "0", "--clicks", "0", "--seed", "5"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    soak.main([*arguments, *PARTS])
    return json.loads(capsys.readouterr().out)


def test_a_short_soak_finds_nothing_and_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "soak.json")
    first = run(capsys, "--messages", "120", "--out", out)
    assert first["messages"] == 120 and first["complete"]
    assert (first["fault_texts"], first["changed"]) == ([], [])
    assert first["refused"] > 20  # malformed ones were among them
    again = run(capsys, "--messages", "160", "--out", out)
    assert again["messages"] == 160 and again["refused"] > first["refused"]
    assert (again["faults"], again["unanswered"], again["traces"]) == (0, 0, 0)
    assert again["identical"]
    with pytest.raises(SystemExit, match="is of --seed 5; name another file"):
        soak.main(["--messages", "160", "--out", out, "--seed", "6"])


def test_the_soak_sees_raw_errors_and_what_is_no_json() -> None:
    channel = Channel()
    for text in ("'NoneType' object has no attribute 'x'.", "invalid literal", "two\nlines."):
        channel.send({"type": "error", "text": text})
    channel.send({"type": "error", "text": "there is no score 'x' to show."})
    channel.send({"type": "readout", "value": float("nan")})
    assert len(channel.wrong) == 4
