"""How scripts end while widgets work in the background: with their own status, not by an abort."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# One process imports memviz once and forks a child for each end; each child ends as a script does.
SCRIPT = """
import json, os, signal, sys, time
import memviz as mv
from tests.support.widgets import flat_study

def statuses(ends):
    found = {}
    for end in ends:
        pid = os.fork()
        if pid == 0:
            return end
        found.setdefault(end, []).append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    print(json.dumps(found))
    os._exit(0)

end = statuses(sys.argv[1:])
sys.stderr = open(os.devnull, "w")
view = mv.workbench(flat_study(examples=2000, units=2000))  # a sweep of seconds
view.session.ablate("0:1")
view.session.open(3)
if end == "localizer":
    view.controller.choose_score("localizer: greedy search")
view.export(f"page-{end}.html")
view.session.toggle("0:2")
time.sleep(0.5)
if end == "error":
    raise ValueError("in a cell")
if end == "exit":
    sys.exit(3)
if end == "interrupt":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
"""
ABORTED = -6
EXPECTED = {"plain": {0}, "localizer": {0}, "error": {1}, "exit": {3}, "interrupt": {-2, 1}}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_scripts_end_with_their_own_status_while_widgets_work(tmp_path: Path) -> None:
    ends, script = [*EXPECTED, "plain", "plain"], tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), *ends],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    statuses = json.loads(done.stdout)
    assert ABORTED not in {status for found in statuses.values() for status in found}
    assert all(set(found) <= EXPECTED[end] for end, found in statuses.items()), statuses
    assert len(list(tmp_path.glob("page-*.html"))) == len(EXPECTED)
