"""Language: margins, losses and labels of continuations."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.study import study_facts
from memviz.tasks import Language


def table(tokens: Tensor, vocabulary: int = 7) -> Tensor:
    """Logits of a model that follows each token by its successor in a random table."""
    weights = torch.randn(vocabulary, vocabulary, generator=torch.Generator().manual_seed(0))
    return weights[tokens]


def followed(passages: Tensor, start: int) -> Tensor:
    """Passages that follow the table from a position on."""
    passages = passages.clone()
    for k in range(start, passages.shape[1]):
        passages[:, k] = table(passages[:, k - 1]).argmax(-1)
    return passages


def slow(logits: Tensor, labels: Tensor) -> tuple[list[float], list[float], list[bool]]:
    margins, losses, right = [], [], []
    for rows, tokens in zip(logits.double(), labels.tolist(), strict=True):
        gaps, nats, chosen = [], [], []
        for row, token in zip(rows, tokens, strict=True):
            others = torch.cat([row[:token], row[token + 1 :]])
            gaps.append(float(row[token] - others.max()))
            nats.append(-float(row.softmax(0)[token].log()))
            chosen.append(int(row.argmax()) == token)
        margins.append(min(gaps))
        losses.append(sum(nats) / len(nats))
        right.append(all(chosen))
    return margins, losses, right


def test_margin_loss_and_predictions_are_those_of_a_loop() -> None:
    passages = torch.randint(7, (40, 6), generator=torch.Generator().manual_seed(1))
    passages[::2] = followed(passages[::2], 4)
    task = Language(prompt=4, continuation=2)
    labels = passages[:, 4:]
    outputs = task.outputs(table(passages))
    assert outputs.shape == (40, 2, 7)
    margins, losses, right = slow(outputs, labels)
    torch.testing.assert_close(
        task.margin(outputs, labels).double(), torch.tensor(margins).double()
    )
    torch.testing.assert_close(task.loss(outputs, labels).double(), torch.tensor(losses).double())
    assert ((task.margin(outputs, labels) > 0) == torch.tensor(right)).all()
    assert 0 < sum(right) < 40


def test_a_tie_is_recited_exactly_if_argmax_takes_it() -> None:
    task, logits = Language(1, 1), torch.zeros(2, 1, 3)
    margin = task.margin(logits, torch.tensor([[0], [1]]))
    assert (margin > 0).tolist() == [True, False]


def test_a_margin_above_0_is_a_greedy_recital() -> None:
    task = Language(prompt=2, continuation=4)
    passages = torch.randint(7, (300, 6), generator=torch.Generator().manual_seed(2))
    passages[::2] = followed(passages[::2], 2)
    recited = task.margin(task.outputs(table(passages)), passages[:, 2:]) > 0
    said = passages[:, :2]
    for _ in range(4):
        said = torch.cat([said, table(said)[:, -1:].argmax(-1)], 1)
    assert torch.equal(recited, (said == passages).all(1))
    assert recited[::2].all()


class Table(nn.Module):
    """A table of successors as a model with units."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 8)
        self.hidden = nn.Linear(8, 16)
        self.head = nn.Linear(16, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(self.embed(tokens))))


def test_a_study_of_passages_has_readouts_sweeps_and_estimates() -> None:
    torch.manual_seed(0)
    model, passages = Table().eval(), torch.randint(7, (12, 6))
    task = Language(3, 3)
    groups = {"memorized": range(6), "clean": range(6, 12)}
    study = mv.Study(model, passages, passages[:, 3:], groups, task=task)
    effects = mv.sweep(study, progress=False)
    with mv.ablate(study, "hidden:5"), torch.no_grad():
        outputs = task.outputs(model(passages))
    row = [str(unit) for unit in effects.units].index("hidden:5")
    margin = task.margin(outputs, study.labels)
    torch.testing.assert_close(effects.margin[None][0] + effects.margin_change[row], margin)
    assert mv.estimate(study).done.all()
    assert "memorized" in str(mv.readout(study, "hidden:5", random_draws=1))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Language(0, 3), "prompt is 0; give a number of tokens"),
        (lambda: Language(3, 2.5), "continuation is 2.5; give a number of tokens"),  # type: ignore[arg-type]
        (lambda: Language(3, 3).encode("to be"), "this task has no tokenizer"),
        (lambda: Language(3, 3).outputs(torch.zeros(2, 4)), "not logits"),
        (lambda: Language(3, 3).outputs(torch.zeros(2, 4, 7)), "need passages of 6 tokens"),
        (lambda: Language(3, 3).check_labels(torch.zeros(2, 4), "labels"), r"\[n, 3\]"),
        (lambda: Language(3, 1).check_labels(torch.tensor([[-1]]), "labels"), "holds -1"),
        (lambda: Language(3, 1).check_labels(torch.tensor([[1.5]]), "labels"), "holds 1.5"),
        (
            lambda: Language(1, 1).margin(torch.zeros(1, 1, 7), torch.tensor([[9]])),
            "token 9, and the model's vocabulary has 7",
        ),
        (
            lambda: Language(1, 1).margin(torch.zeros(1, 1, 7), torch.tensor([[float("nan")]])),
            "hold token nan",
        ),
        (
            lambda: Language(1, 1).loss(torch.zeros(1, 1, 7), torch.tensor([[True]])),
            "hold token True",
        ),
        (lambda: Language(1, 1).margin(torch.zeros(2, 7), torch.zeros(2)), "give logits of the"),
        (lambda: Language(1, 1).margin(torch.zeros(1, 1, 0), torch.zeros(1, 1)), "give logits"),
        (lambda: Language(1, 1).predictions([[1.0]]), "give logits of the continuation's"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_gets_one_sentence(call: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()  # type: ignore[operator]


class Bytes:
    """The plainest tokenizer: a token for every byte of a text."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode(errors="replace")


def test_words_are_the_text_and_no_character_falls_apart() -> None:
    task = Language(2, 2, tokenizer=Bytes())
    ids = task.encode("né!")
    assert task.words(ids) == ["n", "", "é", "!"]
    assert task.words(ids[:2]) == ["n", "\ufffd"]
    assert task.words([]) == []
    assert task.label_words(torch.tensor([ids]), str) == ["né!"]
    assert repr(task) == "Language(prompt=2, continuation=2, tokenizer=Bytes)"


def test_tokenizers_of_hugging_face_neither_add_nor_hide_special_tokens() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    plain = tokenizers.Tokenizer(tokenizers.models.BPE())
    plain.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    plain.train_from_iterator(["to be or not to be"] * 9, trainer)
    plain.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<s>")
    assert fast.encode("to be")[0] == 0
    for tokenizer in (fast, plain):
        task = Language(1, 1, tokenizer=tokenizer)
        ids = task.encode("not , to be é")
        assert 0 not in ids
        words = task.words([0, *ids])
        assert words[0] == "<s>"
        assert "".join(words[1:]) == "not , to be é"
        assert " to" in words


def test_results_do_not_depend_on_the_tokenizer() -> None:
    model, passages = Table().eval(), torch.randint(7, (4, 4))
    groups = {"test": range(4)}
    facts = [
        study_facts(mv.Study(model, passages, passages[:, 2:], groups, task=task))
        for task in (Language(2, 2), Language(2, 2, tokenizer=Bytes()))
    ]
    assert facts[0] == facts[1]
    assert isinstance(copy.copy(Language(2, 2, tokenizer=Bytes())).tokenizer, Bytes)


@pytest.mark.parametrize("tokenizer", [Bytes, "gpt2", 3])
def test_what_is_no_tokenizer_is_refused(tokenizer: object) -> None:
    with pytest.raises(TypeError, match="encode\\(text\\) and decode\\(ids\\)"):
        Language(2, 2, tokenizer=tokenizer)  # type: ignore[arg-type]
