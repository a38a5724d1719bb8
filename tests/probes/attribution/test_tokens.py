"""Attribution for inputs that are a dict or token indices, on tiny models without training."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

import memviz as mv
from memviz.probes.attribution import INPUT_METHODS, LAYER_METHODS, UNIT_METHODS, layer_attributions

GUIDED = "guided_backprop"
SMALL: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 24, "num_labels": 3, "pad_token_id": 0, "max_position_embeddings": 32,
}  # fmt: skip


class Bag(nn.Module):
    """Embeddings, added up and mixed: their attributions are known by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc, self.head = nn.Embedding(12, 5), nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, ids: Tensor, weights: Tensor | None = None) -> Tensor:
        rows = self.embed(ids)
        return self.head(self.fc(rows if weights is None else rows * weights[..., None]).sum(1))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(4, 6), nn.Linear(3, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(torch.tanh(self.one(x)) * torch.tanh(self.two(y)))


def study_of(model: nn.Module, inputs: Any) -> mv.Study:
    n = len(next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs)
    return mv.Study(model.eval(), inputs, torch.arange(n) % 3, {"test": range(n)})


def bag(weights: bool = False) -> mv.Study:
    torch.manual_seed(0)
    ids = torch.randint(0, 12, (5, 4))
    inputs = {"ids": ids, "weights": torch.arange(20).view(5, 4)} if weights else ids
    return study_of(Bag(), inputs)


def hugging_face(name: str) -> mv.Study:
    torch.manual_seed(0)
    more: dict[str, Any] = {}
    if name == "Llama":
        more = {"num_key_value_heads": 1}
    config = getattr(transformers, f"{name}Config")(**SMALL, **more)
    model = getattr(transformers, f"{name}ForSequenceClassification")(config)
    ids = torch.randint(2, 40, (4, 7))
    mask = torch.ones_like(ids)
    ids[2, 5:], mask[2, 5:] = 0, 0  # padded
    return study_of(model, {"input_ids": ids, "attention_mask": mask})


def embedded(study: mv.Study, examples: Tensor, embeddings: Callable[[Tensor], Tensor]) -> Tensor:
    """The model's logits of its own embeddings, by the plain argument ``inputs_embeds``.

    One example at a time and without padding, which decoders cannot see in embeddings.
    """
    logits = []
    for example in examples.tolist():
        given = study.batch(torch.tensor([example]))
        assert isinstance(given, Mapping)
        ids = given["input_ids"][given["attention_mask"].bool()]
        rows = embeddings(study.model.get_input_embeddings()(ids[None]))
        logits.append(study.model(inputs_embeds=rows).logits)
    return torch.cat(logits)


def test_of_a_linear_model_a_tokens_share_is_its_embeddings_logit() -> None:
    for study in (bag(), bag(weights=True)):
        model, examples = study.model, [3, 0]
        inputs = study.inputs if isinstance(study.inputs, Mapping) else {"ids": study.inputs}
        rows = model.embed(inputs["ids"][examples])
        if "weights" in inputs:
            rows = rows * inputs["weights"][examples][..., None]
        whole = model.head.weight[study.labels[examples]] @ model.fc.weight
        wanted = (rows * whole[:, None]).sum(2)
        for method in INPUT_METHODS:
            if method in ("saliency", "guided_backprop"):
                continue
            found = mv.attribute_inputs(study, examples, method, n_steps=3)
            assert found.shape == (2, 4)
            assert torch.allclose(found, wanted, atol=1e-5), method
            if method in ("integrated_gradients", "deep_lift"):
                assert found.completeness is not None
                assert np.abs(found.completeness.errors).max() < 1e-5
        hidden = rows @ model.fc.weight.T * model.head.weight[study.labels[examples]][:, None]
        layer = layer_attributions(study, "fc", examples, n_steps=3)
        assert torch.allclose(layer, hidden.mT, atol=1e-5)
        unit = mv.attribute_unit(study, "fc:2", examples, n_steps=3)
        assert torch.allclose(unit, hidden[..., 2], atol=1e-5)


@pytest.mark.parametrize("name", ["Bert", "Roberta", "GPT2", "Llama"])
def test_hugging_face_text_models(name: str) -> None:
    study = hugging_face(name)
    examples, labels = torch.tensor([2, 0]), study.labels[[2, 0]]
    found = mv.attribute_inputs(study, examples, n_steps=8)
    assert found.shape == (2, 7) and found.completeness is not None
    with torch.no_grad():
        after = embedded(study, examples, lambda rows: rows)
        before = embedded(study, examples, lambda rows: 0 * rows)
    change = (after - before).gather(1, labels[:, None])[:, 0].double().numpy()
    assert found.completeness.changes == pytest.approx(change, abs=1e-5)
    assert found.sum(1).double().numpy() - change == pytest.approx(
        found.completeness.errors, abs=1e-5
    )
    # Input × gradient by hand, with the plain argument for embeddings.
    kept: list[Tensor] = []

    def keep(rows: Tensor) -> Tensor:
        kept.append(rows.detach().requires_grad_())
        return kept[-1]

    logits = embedded(study, examples, keep).gather(1, labels[:, None])
    slopes = torch.autograd.grad(logits.sum(), kept)
    plain = mv.attribute_inputs(study, examples, "input_x_gradient")
    for row, (slope, rows) in enumerate(zip(slopes, kept, strict=True)):
        tokens = rows.shape[1]
        assert torch.allclose(plain[row, :tokens], (slope * rows).sum(2)[0], atol=1e-5)
        assert float(plain[row, tokens:].abs().sum()) < 1e-6  # padding is not attended to
    alone = mv.attribute_inputs(study, [2], n_steps=8)
    assert torch.allclose(alone[0], found[0], atol=1e-5)
    scores = mv.attribute_layers(study, [0, 2], n_steps=8, null_draws=0)
    assert np.isfinite(scores.values).all() and scores.values.any()
    layer = next(la for la in mv.layers(study) if la.kind == "linear")
    unit = mv.attribute_unit(study, mv.Unit(layer.name, 1), [0, 2], n_steps=8)
    assert unit.shape == (2, 7)
    rows = [row for row, u in enumerate(scores.units or ()) if u == mv.Unit(layer.name, 1)]
    assert float(unit.sum(1).mean()) == pytest.approx(scores.values[rows[0]], abs=1e-5)


@pytest.mark.parametrize("method", [m for m in LAYER_METHODS if m != "deep_lift"])
def test_layer_methods_of_token_models(method: str) -> None:
    study = hugging_face("Bert")
    name = next(la.name for la in mv.layers(study) if "intermediate" in la.name)
    both = layer_attributions(study, name, [2, 0], method, n_steps=4)
    alone = layer_attributions(study, name, [0], method, n_steps=4)
    assert both.shape == (2, 24, 7)
    assert torch.allclose(both[1], alone[0], atol=1e-5)


@pytest.mark.parametrize("method", [m for m in UNIT_METHODS if m not in ("deep_lift", GUIDED)])
def test_unit_methods_of_token_models(method: str) -> None:
    study = hugging_face("Bert")
    name = next(la.name for la in mv.layers(study) if "intermediate" in la.name)
    both = mv.attribute_unit(study, f"{name}:3", [2, 0], method, n_steps=4)
    alone = mv.attribute_unit(study, f"{name}:3", [0], method, n_steps=4)
    assert both.shape == (2, 7)
    assert torch.allclose(both[1], alone[0], atol=1e-5)


def test_one_of_several_inputs_is_named() -> None:
    torch.manual_seed(0)
    study = study_of(TwoInputs(), {"x": torch.randn(5, 4), "y": torch.randn(5, 3)})
    with pytest.raises(ValueError, match="could be to 'x', 'y'; name one with of="):
        mv.attribute_inputs(study, [0])
    with pytest.raises(ValueError, match="this study has no input 'z'; choose from x, y"):
        mv.attribute_inputs(study, [0], of="z")
    model, labels = study.model, study.labels[[4, 1]]
    given = study.batch(torch.tensor([4, 1]))
    assert isinstance(given, Mapping)
    for name in ("x", "y"):
        found = mv.attribute_inputs(study, [4, 1], "input_x_gradient", of=name)
        inputs = {key: value.clone().requires_grad_() for key, value in given.items()}
        logits = model(**inputs).gather(1, labels[:, None]).sum()
        (slope,) = torch.autograd.grad(logits, inputs[name])
        assert torch.allclose(found, slope * given[name], atol=1e-6)
        complete = mv.attribute_inputs(study, [4, 1], of=name, n_steps=100)
        assert complete.completeness is not None and complete.completeness.share < 1e-3
    with pytest.raises(ValueError, match="a single input; leave out of='x'"):
        mv.attribute_inputs(bag(), [0], of="x")


def test_with_units_ablated_it_is_that_of_a_net_without_them() -> None:
    study, smaller = bag(), bag()
    with torch.no_grad():
        smaller.model.fc.weight[[1, 4]], smaller.model.fc.bias[[1, 4]] = 0.0, 0.0
    found = mv.attribute_inputs(study, [0, 1], units="fc:1,4")
    assert torch.allclose(found, mv.attribute_inputs(smaller, [0, 1]), atol=1e-6)
    assert not torch.allclose(found, mv.attribute_inputs(study, [0, 1]), atol=1e-3)


def test_guided_backpropagation_without_relu_modules_is_refused() -> None:
    study = hugging_face("Bert")
    name = next(la.name for la in mv.layers(study) if "intermediate" in la.name)
    for attribute in (
        lambda: mv.attribute_inputs(study, [0], GUIDED),
        lambda: mv.attribute_unit(study, f"{name}:1", [0], GUIDED),
    ):
        with pytest.raises(ValueError, match=r"at nn\.ReLU modules, and the model has none"):
            attribute()


def test_nothing_stays_behind() -> None:
    study = hugging_face("Bert")
    before = {name: tensor.clone() for name, tensor in study.model.state_dict().items()}
    mv.attribute_inputs(study, [0], n_steps=2)
    mv.attribute_layers(study, [0], n_steps=2, null_draws=0)
    for module in study.model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
    assert all(torch.equal(before[name], t) for name, t in study.model.state_dict().items())
    assert "of" in inspect.signature(mv.attribute_unit).parameters
