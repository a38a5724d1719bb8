"""Causal language models from files: nothing is fetched unless asked, and nothing left random."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers

from memviz.models.hugging_face import causal_lm
from memviz.probes.extraction import extract, token_ids
from tests.support.language_models import MODELS, build, passages


def tokenizer(**special: str) -> hf.PreTrainedTokenizerFast:
    words = {"<pad>": 0, "<s>": 1, "to": 2, "be": 3, "or": 4, "not": 5}
    inner = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return hf.PreTrainedTokenizerFast(tokenizer_object=inner, **special)


@pytest.mark.parametrize("family", list(MODELS))
def test_a_folder_gives_the_model_that_was_saved(family: str, tmp_path: Path) -> None:
    model = build(family)
    model.save_pretrained(tmp_path)
    read, nothing = causal_lm(tmp_path)
    assert nothing is None
    assert not read.training
    tokens = passages()
    with torch.no_grad():
        assert torch.equal(read(tokens).logits, model(tokens).logits)


def test_the_tokenizer_comes_along(tmp_path: Path) -> None:
    build("llama").save_pretrained(tmp_path)
    tokenizer(bos_token="<s>").save_pretrained(tmp_path)
    model, reader = causal_lm(str(tmp_path))
    ids = token_ids(reader, ["to be or not to be", "or not"], start=True)
    assert ids == [[1, 2, 3, 4, 5, 2, 3], [1, 4, 5]]
    assert token_ids(reader, ["to be"]) == [[2, 3]]
    assert len(extract(model, ids[:1], 3, 4, progress=False)) == 1


def test_no_pad_token_is_needed_and_no_start_token_gets_one_sentence() -> None:
    plain = tokenizer()
    assert plain.pad_token is None
    assert token_ids(plain, ["to be", "or"], start=2) == [[2, 2, 3], [2, 4]]
    with pytest.raises(ValueError, match="tokenizer has no start token \\(BOS\\)"):
        token_ids(plain, ["to be"], start=True)
    with pytest.raises(ValueError, match="text 1 has no tokens"):
        token_ids(plain, ["to be", ""])
    with pytest.raises(TypeError, match="texts is 'to be'; give a list of text"):
        token_ids(plain, "to be")
    with pytest.raises(TypeError, match="give an object with encode"):
        token_ids(None, ["to be"])


def test_nothing_is_fetched_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="no downloaded model; give a folder, or fetch it"):
        causal_lm("nobody/has-this")
    asked = []

    def refuse(*_: object, **given: object) -> None:
        asked.append(given["local_files_only"])
        raise OSError("no network here\nand more")

    monkeypatch.setattr(hf.AutoModelForCausalLM, "from_pretrained", refuse)
    with pytest.raises(FileNotFoundError):
        causal_lm("nobody/has-this")
    with pytest.raises(OSError, match="can't be downloaded: no network here.$"):
        causal_lm("nobody/has-this", download=True)
    assert asked == [True, False]


def test_a_folder_without_all_weights_is_refused(tmp_path: Path) -> None:
    config = hf.GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2, tie_word_embeddings=False)
    hf.GPT2Model(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="lacks 1 weights of a causal language model .*lm_head"):
        causal_lm(tmp_path)


def test_what_is_no_language_model_gets_one_sentence(tmp_path: Path) -> None:
    with pytest.raises((OSError, ValueError), match="can't be read") as caught:
        causal_lm(tmp_path)
    assert len(str(caught.value)) < 400
    hf.ViTConfig().save_pretrained(tmp_path)
    with pytest.raises((OSError, ValueError), match="can't be read") as caught:
        causal_lm(tmp_path)
    assert len(str(caught.value)) < 400


def test_without_transformers_it_says_which_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"memviz-torch\[hf\]"):
        causal_lm("anything")
