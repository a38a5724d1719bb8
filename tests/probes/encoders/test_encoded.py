"""What a failing encoder is answered with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from memviz.probes.encoders._encoded import called, encoded


class Fails(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, images: Tensor) -> Tensor:
        raise self.error


def test_a_failing_encoder_is_named_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="RuntimeError: no rows; give what it takes"):
        called(Fails(RuntimeError("no rows.")), torch.ones(2, 3), "images")


@pytest.mark.parametrize("images", [torch.ones(3), torch.ones(())])
def test_one_number_per_image_is_no_row_of_features(images: Tensor) -> None:
    with pytest.raises(ValueError, match="does not return one row of features per image"):
        encoded(nn.Identity(), images)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), MemoryError()])
def test_want_of_memory_stays_what_it_is(error: Exception) -> None:
    with pytest.raises(type(error)):
        called(Fails(error), torch.ones(2, 3), "images")
