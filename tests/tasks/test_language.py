"""Language: margins, losses and labels of continuations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import memviz as mv
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
        (lambda: Language(3, 3).outputs(torch.zeros(2, 4)), "not logits"),
        (lambda: Language(3, 3).outputs(torch.zeros(2, 4, 7)), "need passages of 6 tokens"),
        (lambda: Language(3, 3).check_labels(torch.zeros(2, 4), "labels"), r"\[n, 3\]"),
        (lambda: Language(3, 1).check_labels(torch.tensor([[-1]]), "labels"), "holds -1"),
        (lambda: Language(3, 1).check_labels(torch.tensor([[1.5]]), "labels"), "holds 1.5"),
        (
            lambda: Language(1, 1).margin(torch.zeros(1, 1, 7), torch.tensor([[9]])),
            "token 9, and the model's vocabulary has 7",
        ),
    ],
)
def test_bad_input_gets_one_sentence(call: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()  # type: ignore[operator]
