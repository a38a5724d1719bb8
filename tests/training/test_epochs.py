"""The frame of the training loops: whole epochs or none, however the loop is left."""

import pytest
import torch
from torch import Tensor, nn

from memviz.training.early_learning import ELR, train_two
from memviz.training.epochs import Epochs, advice


def filled(model: nn.Linear) -> float:
    return model.weight[0, 0].item()


def step(model: nn.Linear) -> None:
    model.train()
    with torch.no_grad():
        model.weight += 1


@pytest.fixture
def model() -> nn.Linear:
    model = nn.Linear(1, 1)
    nn.init.zeros_(model.weight)
    return model


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("folder", [None, "somewhere"])
def test_an_epoch_cut_in_half_is_taken_back(
    model: nn.Linear, error: type[BaseException], folder: str | None
) -> None:
    frame = Epochs(model, 9, learning_rate=0.1, advice=advice(folder), progress=False)
    with pytest.raises(error) as caught, frame:
        frame.go_on(2)
        for epoch in frame:
            step(model)
            if epoch == 5:
                raise error
            frame.trained(0.5)
            frame.end()
    assert frame.done == 4 and filled(model) == 2 and not model.training
    then = "the same call goes on" if folder else "with folder= it could go on"
    assert caught.value.__notes__ == [
        f"Training stopped in epoch 5; the model is as it was after epoch 4, and {then} from there."
    ]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_said_before_anything_is_called(
    model: nn.Linear, loss: float
) -> None:
    called: list[int] = []
    frame = Epochs(
        model, 3, learning_rate=0.1, on_epoch=lambda e, _: called.append(e), progress=False
    )
    with pytest.raises(
        FloatingPointError, match="finite in epoch 2; try a learning_rate below 0.1"
    ):
        with frame:
            for epoch in frame:
                step(model)
                frame.trained(loss if epoch == 2 else 1.0)
                frame.end()
    assert called == [1] and filled(model) == 1


def test_a_loop_may_end_early_and_choose_what_is_left(model: nn.Linear) -> None:
    with Epochs(model, 9, learning_rate=0.1, progress=False) as frame:
        for epoch in frame:
            if epoch == 4:
                break
            step(model)
            frame.trained(1.0)
            frame.end()
            if epoch == 2:
                best = {"weight": model.weight.detach().clone(), "bias": model.bias.detach()}
        frame.leave_at(best)
    assert frame.done == 3 and filled(model) == 2


def test_the_bar_shows_loss_and_what_else_is_given(
    model: nn.Linear, capsys: pytest.CaptureFixture[str]
) -> None:
    with Epochs(model, 3, learning_rate=0.1) as frame:
        frame.go_on(1)
        for _ in frame:
            frame.trained(0.25)
            frame.end(accuracy=0.5)
    shown = capsys.readouterr()
    assert shown.out == "" and "3/3" in shown.err and "accuracy=0.500, loss=0.250" in shown.err


def test_two_networks_and_their_averages_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, labels = torch.eye(8, 3), torch.arange(8) % 3
    pair = (nn.Linear(3, 3), nn.Linear(3, 3))
    first = [{name: value.clone() for name, value in net.state_dict().items()} for net in pair]
    forward, calls = ELR.pull, iter(range(100))

    def interrupted(self: ELR, logits: Tensor, targets: Tensor) -> Tensor:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return forward(self, logits, targets)

    monkeypatch.setattr(ELR, "pull", interrupted)
    losses = (ELR(8, 3), ELR(8, 3))
    with pytest.raises(KeyboardInterrupt) as caught:
        train_two(pair, inputs, labels, losses, epochs=2, batch_size=4, progress=False)
    assert "stopped in epoch 1" in caught.value.__notes__[0]
    for net, start in zip(pair, first, strict=True):
        assert all(torch.equal(value, start[name]) for name, value in net.state_dict().items())
