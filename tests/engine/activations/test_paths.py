"""Batches that take different paths: each example is read as if it were alone."""

from __future__ import annotations

import pytest
import torch
import transformers

import memviz as mv
from memviz.engine.activations import UnitActivations
from tests.support.mixtures import Experts


def test_padded_text_beside_unpadded() -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=20, num_labels=3, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, pad_token_id=0,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config).eval()
    tokens = torch.randint(1, 20, (9, 7))
    tokens[1:3, 5:] = 0
    tokens[7, 4:] = 0
    inputs = {"input_ids": tokens, "attention_mask": (tokens != 0).long()}
    study = mv.Study(model, inputs, torch.arange(9) % 3, {"test": range(9)})
    layer = "bert.encoder.layer.0.intermediate.dense"
    read = torch.cat([values for _, values in UnitActivations(study, [layer]).chunks()])
    hidden = []
    handle = model.bert.encoder.layer[0].intermediate.register_forward_hook(
        lambda _module, _given, output: hidden.append(output.mean(1))
    )
    with torch.no_grad():
        for example in range(9):
            model(**{key: value[[example]] for key, value in inputs.items()})
    handle.remove()
    assert torch.allclose(read, torch.cat(hidden), atol=1e-6)


def test_an_expert_that_some_examples_do_not_reach_is_refused() -> None:
    torch.manual_seed(0)
    model = Experts().eval()
    study = mv.Study(model, torch.randn(24, 6), torch.arange(24) % 3, {"test": range(24)})
    with pytest.raises(ValueError, match="reach"):
        UnitActivations(study, ["experts.0"])
