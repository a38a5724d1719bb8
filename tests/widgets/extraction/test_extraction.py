"""The extraction explorer as Python objects: what it is asked, what it tells, what it leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import memviz as mv
from memviz.engine.sets import random_units
from memviz.probes.extraction import (
    extract,
    matched_by_prompt,
    recite,
    sampling_probabilities,
    teacher_forced,
)
from memviz.tasks import Language
from memviz.widgets.core import Message
from memviz.widgets.extraction import ExtractionController, ExtractionView, extraction
from memviz.widgets.extraction._passages import Passages, heads_and_neurons
from tests.support.language_models import MODELS, build, places
from tests.support.language_models import passages as language_tokens
from tests.support.recited import (
    CONTINUATION,
    COPIES,
    HELD,
    PROMPT,
    TRAINED,
    passages,
    recited_ladder,
    recited_model,
    recited_study,
)
from tests.support.widgets import flat_study

UNITS = "blocks.0.up:0-14 blocks.1.attention:1"


class Sink:
    def __init__(self) -> None:
        self.got: list[Message] = []

    def tell(self, message: Message) -> None:
        self.got.append(message)

    def last(self, kind: str) -> dict[str, Any]:
        json.dumps([m.content for m in self.got])  # nothing that JSON lacks
        return next(m.content for m in reversed(self.got) if m.content["type"] == kind)

    def arrays(self, kind: str) -> dict[str, np.ndarray]:
        content, buffers = next(m for m in reversed(self.got) if m.content["type"] == kind)
        return {
            spec["name"]: np.frombuffer(buffer, spec["dtype"]).reshape(spec["shape"])
            for spec, buffer in zip(content["arrays"], buffers, strict=True)
        }


@pytest.fixture(scope="module")
def study() -> mv.Study:
    return recited_study()


@pytest.fixture
def controller(study: mv.Study) -> Iterator[ExtractionController]:
    found = ExtractionController(mv.Session(study), Passages(study, copies=COPIES), threaded=False)
    found.sinks.append(Sink())
    yield found
    found.close()


@pytest.fixture
def sink(controller: ExtractionController) -> Sink:
    ours = controller.sinks[0]
    assert isinstance(ours, Sink)
    controller.hello(ours)
    work(controller)
    return ours


def work(controller: ExtractionController) -> None:
    """Everything but the long sweep."""
    for _ in range(60):
        controller.worker._step()
        controller.worker.drop("sweep")


def test_hello_tells_the_passages_one_of_them_and_the_figures(
    controller: ExtractionController, sink: Sink, study: mv.Study
) -> None:
    listed, passage, recited = (sink.last(kind) for kind in ("passages", "passage", "recited"))
    plain = extract(study.model, passages(), PROMPT, CONTINUATION, progress=False)
    assert 0 < plain.memorized.sum() <= TRAINED and not plain.memorized[TRAINED:].any()
    assert [entry["copies"] for entry in listed["passages"]] == COPIES
    assert passage["row"] == controller.session.opened == 0
    assert passage["true"] == study.task.words(passages()[0].tolist())[PROMPT:]
    assert passage["saidBefore"] == study.task.words(plain.said[0].tolist())
    assert recited["rows"]["recited"]["counts"] == (plain.memorized[:TRAINED].sum(),) * 2
    assert recited["rows"]["held"]["counts"] == (0, 0)
    assert sink.arrays("recited")["matchedBefore"].tolist() == plain.matched.tolist()
    assert recited["sentence"].startswith(f"{plain.memorized.sum()} of 12 passages are recited")
    assert recited["sentence"].endswith("it was in training 16 times.")


def test_an_ablation_breaks_passages_where_plain_functions_say(
    controller: ExtractionController, sink: Sink, study: mv.Study
) -> None:
    controller.receive({"type": "toggle", "units": UNITS}, sink)
    work(controller)
    tokens = passages()
    with mv.ablate(study, UNITS):
        said = extract(study.model, tokens, PROMPT, CONTINUATION, progress=False)
        forced = teacher_forced(study.model, tokens, PROMPT, CONTINUATION, progress=False)
        own = recite(study.model, tokens[0, :PROMPT], tokens[0, PROMPT:])
        chance = sampling_probabilities(
            study.model, tokens[:1], PROMPT, CONTINUATION, progress=False
        )
    recited, passage = sink.last("recited"), sink.last("passage")
    assert sink.arrays("recited")["matchedAfter"].tolist() == said.matched.tolist()
    assert recited["rows"]["recited"]["counts"][1] == said.memorized[:TRAINED].sum()
    losses = -forced.log_likelihoods[TRAINED:].double().mean(1)
    assert recited["rows"]["perplexity"]["after"] == pytest.approx(float(losses.mean().exp()), 1e-4)
    assert passage["matchedAfter"] == own.matched < CONTINUATION
    assert passage["saidAfter"] == study.task.words(own.said.tolist())
    arrays = sink.arrays("passage")
    assert arrays["rankAfter"].tolist() == own.ranks.tolist()
    np.testing.assert_allclose(
        arrays["chanceAfter"][:, 0], own.probabilities(own.true).numpy(), rtol=1e-4, atol=1e-7
    )
    assert passage["tries"]["after"]["p"] == pytest.approx(float(chance[0]), rel=1e-4)
    assert f"this passage now breaks at token {own.matched + 1} of 8" in recited["sentence"]
    controller.receive({"type": "undo"}, sink)
    work(controller)
    assert sink.last("passage")["units"] == 0 and sink.last("passage")["matchedAfter"] == 8


def test_random_units_are_read_as_any_others(
    controller: ExtractionController, sink: Sink, study: mv.Study
) -> None:
    controller.receive({"type": "set", "units": UNITS}, sink)
    work(controller)
    null, layers = sink.last("recited_null"), controller.session.replay.layers
    assert (null["draws"], null["of"], null["units"]) == (20, 20, 16)
    shares, whole, tokens = [], 0, passages()
    for draw in range(20):
        with mv.ablate(study, random_units(layers, mv.UnitSet.parse(UNITS), draw)):
            read = teacher_forced(study.model, tokens, PROMPT, CONTINUATION, progress=False)
            whole += recite(study.model, tokens[0, :PROMPT], tokens[0, PROMPT:]).whole
        shares.append(read.memorized[:TRAINED].mean())
    assert null["figures"]["recited"]["mean"] == pytest.approx(np.mean(shares))
    assert null["whole"] == whole
    version = sink.last("recited")["version"]
    controller.receive({"type": "open", "example": 3}, sink)  # the draws are known of every passage
    work(controller)
    assert sink.last("passage")["row"] == sink.last("recited_null")["row"] == 3
    assert sink.last("recited_null")["version"] == version
    assert sink.last("recited_null")["figures"] == null["figures"]


def test_a_whole_layer_has_no_random_units_beside_it(
    controller: ExtractionController, sink: Sink
) -> None:
    controller.receive({"type": "set", "units": "blocks.0.attention:0-2"}, sink)
    work(controller)
    assert sink.last("recited_null")["draws"] == 0
    assert sink.last("recited_null")["words"].startswith("All units of these layers are off")


def test_the_list_is_sorted_and_searched(controller: ExtractionController, sink: Sink) -> None:
    controller.receive({"type": "list", "sort": "chance", "find": ""}, sink)
    work(controller)
    values = [entry["value"] for entry in sink.last("passages")["passages"]]
    assert values == sorted(values, reverse=True) and len(values) == 18
    controller.receive({"type": "list", "sort": "recited", "find": "IMG onerror"}, sink)
    work(controller)
    assert [entry["row"] for entry in sink.last("passages")["passages"]] == [0]
    controller.receive({"type": "list", "sort": "size", "find": ""}, sink)
    assert "can't be sorted by 'size'; choose from copies" in sink.last("error")["text"]
    controller.receive({"type": "list", "sort": "copies", "find": 3}, sink)
    assert "needs 'find', a string" in sink.last("error")["text"]


def test_a_shorter_prompt_is_the_end_of_the_passages_own(
    controller: ExtractionController, sink: Sink, study: mv.Study
) -> None:
    tokens = passages()[0]
    curve = sink.arrays("prompt_curve")["before"]
    plain = matched_by_prompt(study.model, tokens, PROMPT, CONTINUATION)
    assert curve.tolist() == plain.tolist() and plain[-1] == CONTINUATION
    assert "from a prompt of 6 tokens on" in sink.last("recited")["sentence"]
    assert sink.last("prompt_curve")["starts"] == 6 and plain[4] < CONTINUATION
    controller.receive({"type": "set", "units": UNITS}, sink)
    controller.receive({"type": "prompt_length", "length": 4}, sink)
    work(controller)
    passage = sink.last("passage")
    assert (passage["length"], passage["edited"]) == (4, False)
    with mv.ablate(study, UNITS):
        own = recite(study.model, tokens[2:PROMPT], tokens[PROMPT:])
        off = matched_by_prompt(study.model, tokens, PROMPT, CONTINUATION)
    assert passage["saidAfter"] == study.task.words(own.said.tolist())
    curves = sink.arrays("prompt_curve")
    assert curves["after"].tolist() == off.tolist()
    assert np.isfinite(curves["null"]).all() and curves["before"].tolist() == plain.tolist()
    controller.receive({"type": "prompt_length", "length": 7}, sink)
    assert "this prompt has 1 to 6 tokens" in sink.last("error")["text"]
    controller.receive({"type": "open", "example": 1}, sink)
    work(controller)
    assert sink.last("passage")["length"] == PROMPT


def test_an_edited_prompt_has_no_chance_of_its_own(
    controller: ExtractionController, sink: Sink, study: mv.Study
) -> None:
    controller.receive({"type": "prompt_text", "text": "moon sun sea"}, sink)
    work(controller)
    passage = sink.last("passage")
    assert passage["edited"] and passage["prompt"] == " moon sun sea" and passage["length"] == 3
    assert passage["tries"] == {"before": None, "after": None}
    own = recite(study.model, study.task.encode("moon sun sea"), passages()[0, PROMPT:])
    assert passage["saidBefore"] == study.task.words(own.said.tolist())
    assert "Edited prompt: tokens are compared with passage 0" in sink.last("recited")["sentence"]
    for text in ("", study.task.text(passages()[0, :PROMPT].tolist())):
        controller.receive({"type": "prompt_text", "text": text}, sink)
        work(controller)
        assert not sink.last("passage")["edited"] and sink.last("passage")["length"] == PROMPT
    controller.receive({"type": "prompt_text", "text": "a planet"}, sink)
    assert "the tokenizer can't read this text" in sink.last("error")["text"]
    controller.receive({"type": "prompt_text", "text": "moon " * 20}, sink)
    work(controller)
    assert "context" in sink.last("error")["text"]
    controller.receive({"type": "toggle", "units": UNITS}, sink)  # which is answered again
    work(controller)
    assert sink.last("passage")["units"] == 16 and not sink.last("passage")["edited"]


def test_samples_are_drawn_anew_and_their_chances_follow_temperature_and_top_k(
    controller: ExtractionController, sink: Sink, study: mv.Study
) -> None:
    hot = {"temperature": 3.0, "topK": 5}
    said = []
    for request in ({"key": "sample", **hot}, {"key": "sample", "again": True}):
        controller.receive({"type": "decode", **request}, sink)
        work(controller)
        said.append(sink.last("passage")["saidBefore"])
    assert said[0] != said[1] and sink.last("passage")["sample"] == 1
    tokens = passages()[:1]
    chance = sampling_probabilities(
        study.model, tokens, PROMPT, CONTINUATION, temperature=3.0, top_k=5, progress=False
    )
    assert sink.last("passage")["tries"]["before"]["p"] == pytest.approx(float(chance[0]))
    controller.receive({"type": "code"}, sink)
    assert "temperature=3.0, top_k=5, seed=18" in sink.last("code")["text"]
    controller.receive({"type": "decode", "key": "greedy"}, sink)
    work(controller)
    assert sink.last("passage")["matchedBefore"] == CONTINUATION
    for request, words in [
        ({"key": "beam"}, "there is no decoding 'beam'"),
        ({"key": "sample", "temperature": 0}, "temperature is 0; give a number above 0"),
        ({"key": "sample", "topK": 0}, "top-k is 0"),
    ]:
        controller.receive({"type": "decode", **request}, sink)
        assert words in sink.last("error")["text"]


def test_the_ladder_says_who_recites_a_passage_already(study: mv.Study) -> None:
    ladder = recited_ladder()
    found = ExtractionController(
        mv.Session(study), Passages(study, copies=COPIES), ladder, threaded=False
    )
    sink = Sink()
    found.sinks.append(sink)
    found.hello(sink)
    work(found)
    told, tokens = sink.last("recited_ladder"), passages()
    own = extract(study.model, tokens, PROMPT, CONTINUATION, progress=False)
    assert told["columns"] == ["", "40", "80", "150"]
    assert [row["name"] for row in told["rows"]] == ["new", "moons"]
    models = [ladder["new"], *ladder["moons"].values()]
    read = [extract(model, tokens, PROMPT, CONTINUATION, progress=False) for model in models]
    assert told["rows"][0]["cells"] == [read[0].matched[0], -1, -1, -1]
    assert told["rows"][1]["cells"] == [-1, *(one.matched[0] for one in read[1:])]
    assert told["rows"][0]["weights"] == sum(p.numel() for p in models[0].parameters())
    new, last = told["rows"]
    assert new["recited"] == 0 and new["precision"] is None and new["recall"] == 0
    assert (last["recited"], last["precision"], last["recall"]) == (1.0, 1.0, 1.0)
    assert told["chance"] == own.memorized[:TRAINED].mean()
    found.receive({"type": "open", "example": 13}, sink)
    work(found)
    cells = sink.last("recited_ladder")["rows"][1]["cells"]
    assert cells[1:] == [one.matched[13] for one in read[1:]]
    found.close()
    with pytest.raises(TypeError, match="give a model, or models by checkpoint"):
        extraction(study, ladder={"small": {"end": "gpt2"}})
    with pytest.raises(ValueError, match="'new' is in train mode"):
        extraction(study, ladder={"new": ladder["new"].train()})


def test_an_earlier_checkpoint_is_read_as_a_model_of_its_own() -> None:
    early = recited_model(40)
    study = recited_study(checkpoints={1: early.state_dict()})
    found = ExtractionController(mv.Session(study), Passages(study), threaded=False)
    sink, tokens = Sink(), passages()
    found.sinks.append(sink)
    found.hello(sink)
    work(found)
    found.session.open(4)
    found.session.look_at(next(key for key in found.session.variants if key))
    work(found)
    plain = extract(early, tokens, PROMPT, CONTINUATION, progress=False)
    assert sink.arrays("recited")["matchedBefore"].tolist() == plain.matched.tolist()
    assert sink.last("passage")["saidBefore"] == study.task.words(plain.said[4].tolist())
    found.session.ablate(UNITS)
    work(found)
    with mv.ablate(early, UNITS):
        off = extract(early, tokens, PROMPT, CONTINUATION, progress=False)
    assert sink.arrays("recited")["matchedAfter"].tolist() == off.matched.tolist()
    assert sink.last("passage")["saidAfter"] == study.task.words(off.said[4].tolist())
    found.close()


def test_the_model_is_as_it_was(controller: ExtractionController, sink: Sink) -> None:
    model = controller.session.study.model
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    hooks = [len(module._forward_hooks) for module in model.modules()]
    controller.receive({"type": "set", "units": UNITS}, sink)
    work(controller)
    assert all(torch.equal(before[name], w) for name, w in model.state_dict().items())
    assert hooks == [len(module._forward_hooks) for module in model.modules()]
    assert all("forward" not in vars(module) for module in model.modules())


def reopened(code: str, **names: Any) -> tuple[ExtractionController, list[Any]]:
    """The view that some copied code opens, and what the code prints."""
    printed: list[Any] = []
    given = {"recited_study": recited_study, "print": printed.append, **names}
    exec(code, given)
    view = given["view"]
    assert isinstance(view, ExtractionView)
    with view:
        view._still()  # waits for the first figures
    return view.controller, printed


def test_its_code_gives_the_same_figures(controller: ExtractionController, sink: Sink) -> None:
    controller.receive({"type": "set", "units": UNITS}, sink)
    controller.receive({"type": "open", "example": 2}, sink)
    work(controller)
    controller.receive({"type": "code"}, sink)
    again, printed = reopened(sink.last("code")["text"])
    assert (
        printed[0].groups["training"].after.correct
        == sink.last("recited")["rows"]["recited"]["counts"][1]
    )
    assert printed[1].matched == sink.last("passage")["matchedAfter"]
    assert again.session.units == controller.session.units and again.session.opened == 2
    assert again.passages.copies is not None and again.passages.copies.tolist() == COPIES


class NamedLadder(dict[str, Any]):
    origin = "recited_ladder()"


def test_its_code_opens_the_view_as_it_was(study: mv.Study) -> None:
    own = mv.Scores("mine", "", np.arange(18.0), examples=np.arange(18))
    passages = Passages(study, "training", [3, 1] * 9, {"mine": own})
    ladder = NamedLadder(recited_ladder())
    found = ExtractionController(mv.Session(study), passages, ladder, threaded=False)
    sink = Sink()
    found.sinks.append(sink)
    found.hello(sink)
    work(found)
    for request in (
        {"type": "set", "units": UNITS},
        {"type": "open", "example": 3},
        {"type": "prompt_length", "length": 4},
        {"type": "decode", "key": "sample", "temperature": 2.0, "topK": 7},
        {"type": "decode", "key": "sample", "again": True},
        {"type": "list", "sort": "score mine", "find": "moon"},
        {"type": "score", "key": "opened passage"},
        {"type": "code"},
    ):
        found.receive(request, sink)
        work(found)
    code = sink.last("code")["text"]
    assert "scores = ...  # your Scores: 'mine'\n" in code
    again, printed = reopened(
        code.replace("scores = ...", "scores = own"),
        own={"mine": own},
        recited_ladder=recited_ladder,
    )
    assert again.asked == found.asked and again.asked.sample == 1
    assert (again.sort, again.find, again.score) == ("score mine", "moon", "opened passage")
    assert again.passages.group == "training" and again.passages.copies.tolist() == [3, 1] * 9
    assert [rung.row for rung in again.rungs.rungs] == [rung.row for rung in found.rungs.rungs]
    assert printed[1].said.tolist() == found.after.recital.said.tolist()
    found.receive({"type": "prompt_text", "text": "moon sun"}, sink)
    found.receive({"type": "decode", "key": "greedy"}, sink)
    found.receive({"type": "code"}, sink)
    assert "view.controller.ask('moon sun')\n" in sink.last("code")["text"]
    found.ladder = recited_ladder()
    names = "{'new': ..., 'moons': {'40': ..., '80': ..., '150': ...}}"
    assert f"ladder = {names}  # your models\n" in found.code()
    found.close()


def test_what_is_asked_in_python_is_checked(controller: ExtractionController, sink: Sink) -> None:
    controller.ask(3, sample=2, temperature=1.5, top_k=4)
    work(controller)
    assert sink.last("passage")["length"] == 3 and sink.last("passage")["sample"] == 2
    with pytest.raises(ValueError, match="sample is -1; give the number of a sample"):
        controller.ask(sample=-1)
    with pytest.raises(ValueError, match="this prompt has 1 to 6 tokens"):
        controller.ask(9)


def test_the_units_that_hold_a_passage_are_those_of_a_sweep(
    controller: ExtractionController, sink: Sink, study: mv.Study
) -> None:
    controller.receive({"type": "open", "example": 1}, sink)
    controller.receive({"type": "score", "key": "opened passage"}, sink)
    for _ in range(6):  # a few steps: estimates, marked as such
        controller.worker._step()
    told = [m.content for m in sink.got if m.content.get("key") == "opened passage"]
    assert any(one["kind"] == "estimate" and one["done"] == 0 for one in told if one["total"])
    work_long(controller)
    scores = sink.last("scores")
    assert (scores["key"], scores["done"], scores["total"]) == ("opened passage", 198, 198)
    assert scores["measure"] == "logits of margin lost, passage 1; heads are not ranked"
    swept = mv.sweep(study, mv.UnitSet(controller.scores.units), [1], progress=False).of_example(1)
    wanted = dict(zip(swept.units, swept.values, strict=True))
    units, values = controller.scores.units, sink.arrays("scores")["value"]
    for unit, value in zip(units, values, strict=True):
        assert value == pytest.approx(wanted[unit], abs=1e-4)
    assert scores["unranked"] == ["blocks.0.attention", "blocks.1.attention"]
    controller.receive({"type": "top", "k": 8}, sink)
    neurons = [unit for unit in wanted if unit.layer.endswith("up")]
    best = sorted(neurons, key=wanted.__getitem__, reverse=True)
    least = min(wanted[unit] for unit in controller.session.units)
    assert len(controller.session.units) == 8 and least >= wanted[best[8]] - 1e-4
    assert set(controller.session.units) <= set(neurons)
    controller.receive({"type": "open", "example": 2}, sink)  # the score follows the passage
    work_long(controller)
    assert sink.last("scores")["measure"].startswith("logits of margin lost, passage 2;")
    assert not np.array_equal(sink.arrays("scores")["value"], values)


def work_long(controller: ExtractionController) -> None:
    """The effects on the opened passage, too."""
    for _ in range(600):
        controller.worker._step()
        controller.worker.drop("sweep")


def test_first_wrong_tokens_of_every_length_are_those_of_decoding(
    controller: ExtractionController, sink: Sink, study: mv.Study
) -> None:
    controller.receive({"type": "set", "units": UNITS}, sink)
    work(controller)
    told, curves, tokens = sink.last("prompt_curve"), sink.arrays("prompt_curve"), passages()[0]
    for length in range(1, PROMPT + 1):
        prompt, true = tokens[PROMPT - length : PROMPT], tokens[PROMPT:]
        for side, units in (("Before", ""), ("After", UNITS)):
            with mv.ablate(study, units):
                said = recite(study.model, prompt, true)
            assert curves[side.lower()][length - 1] == said.matched
            word = "" if said.whole else study.task.words(said.said.tolist())[said.matched]
            assert told[f"wrong{side}"][length - 1].strip() == word.strip()


def test_scores_rank_heads_and_neurons_alone(controller: ExtractionController) -> None:
    sink = controller.sinks[0]
    assert isinstance(sink, Sink)
    controller.hello(sink)
    controller.worker.run_until_idle()
    scores = sink.last("scores")
    assert [layer.name for layer in controller.layers] == [
        f"blocks.{block}.{name}" for block in (0, 1) for name in ("attention", "up")
    ]
    assert scores["total"] == len(controller.scores.units) == 198
    controller.receive({"type": "top", "k": 4}, sink)
    controller.worker.run_until_idle()
    assert len(controller.session.units) == 4
    assert all(unit.layer.endswith(("up", "attention")) for unit in controller.session.units)


def test_a_still_picture_and_words_stand_for_the_widget(study: mv.Study) -> None:
    view = extraction(study, copies=COPIES)
    assert isinstance(view, ExtractionView)
    with view:
        still = view._still()
        assert "passages are recited whole" in still and "<img src=x" not in still
        assert repr(view).startswith("memviz extraction explorer of 'moons'. ")


def test_a_study_without_a_tokenizer_or_held_out_text_is_explored_too(study: mv.Study) -> None:
    task = Language(PROMPT, CONTINUATION)
    tokens = passages()
    plain = mv.Study(
        study.model, {"input_ids": tokens}, tokens[:, PROMPT:], {"all": torch.arange(18)}, task=task
    )
    controller = ExtractionController(mv.Session(plain), Passages(plain), threaded=False)
    sink = Sink()
    controller.sinks.append(sink)
    controller.hello(sink)
    controller.receive({"type": "set", "units": UNITS}, sink)
    work(controller)
    row = sink.last("passage")["row"]
    assert sink.last("passage")["true"] == [str(token) for token in tokens[row, PROMPT:].tolist()]
    assert set(sink.last("recited")["rows"]) == {"recited"}
    assert sink.last("recited")["rows"]["recited"]["of"] == 18
    assert not [m for m in sink.got if m.content["type"] == "error"]


def test_bad_input_gets_one_sentence(study: mv.Study) -> None:
    with pytest.raises(TypeError, match="is Classification; the extraction explorer needs"):
        extraction(flat_study())
    with pytest.raises(ValueError, match="there is no group 'unseen'"):
        extraction(study, held_out="unseen")
    with pytest.raises(ValueError, match="a whole number for each of the 18 passages"):
        extraction(study, copies=[1, 2])
    tokens = passages()
    task = Language(PROMPT, CONTINUATION)
    groups = {"all": torch.arange(18)}
    wrong = mv.Study(study.model, tokens, tokens[:, 1 : 1 + CONTINUATION], groups, task=task)
    with pytest.raises(ValueError, match="labels are not the passages' own continuations"):
        extraction(wrong)
    mask = torch.ones_like(tokens)
    mask[0, 0] = 0
    padded = {"input_ids": tokens, "attention_mask": mask}
    masked = mv.Study(study.model, padded, tokens[:, PROMPT:], groups, task=task)
    with pytest.raises(ValueError, match="some passages are padded"):
        extraction(masked)


@pytest.mark.parametrize("family", list(MODELS))
def test_models_of_hugging_face_show_heads_and_mlp_neurons(family: str) -> None:
    model, tokens = build(family), language_tokens(6, 10)
    groups = {"training": torch.arange(4), "held-out": torch.arange(4, 6)}
    task = Language(5, 5)
    study = mv.Study(model, {"input_ids": tokens}, tokens[:, 5:], groups, task=task)
    found = ExtractionController(mv.Session(study), Passages(study), threaded=False)
    sink = Sink()
    found.sinks.append(sink)
    found.hello(sink)
    assert [layer.name for layer in found.layers] == list(places(family))
    found.session.ablate({found.layers[0].name: [1], found.layers[1].name: [0, 3]})
    work(found)
    with mv.ablate(study, found.session.units):
        plain = extract(model, tokens, 5, 5, progress=False)
    assert sink.arrays("recited")["matchedAfter"].tolist() == plain.matched.tolist()
    row = sink.last("passage")["row"]
    assert sink.last("passage")["saidAfter"] == [str(token) for token in plain.said[row].tolist()]
    assert not [m for m in sink.got if m.content["type"] == "error"]
    found.close()


def test_all_layers_are_shown_where_there_are_no_heads() -> None:
    layers = mv.Session(flat_study()).known
    assert heads_and_neurons(layers) == layers
    assert HELD == 6
