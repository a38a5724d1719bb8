"""Inner products of the loss gradients of examples, from one backward pass per example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from memviz.checks import checked
from memviz.engine.record import trace
from memviz.progress import slow
from memviz.restored import undisturbed
from memviz.study import Study, check_examples, check_ready, private

_BLOCK = 2**25  # gradient values held at once


@checked
def gradient_products(
    study: Study, rows: Tensor, columns: Tensor, *, progress: bool = True
) -> Tensor:
    """Inner product of the loss gradients of each pair of examples, over all parameters.

    The gradients of some rows are held, and those of the columns pass by one at a time. An
    example's gradient is that of a batch of one.

    Parameters
    ----------
    study : Study
        Its task gives the loss of each example.
    rows, columns : int64 ``[n]``, ``[m]``
    progress : bool

    Returns
    -------
    Tensor
        float64 ``[n, m]``.

    Raises
    ------
    ValueError
        If no parameter requires a gradient.

    Examples
    --------
    >>> model = torch.nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> gradient_products(study, torch.tensor([0, 1]), torch.arange(6)).shape
    torch.Size([2, 6])
    """
    check_ready(study.model)
    chosen, others = check_examples(study, rows), check_examples(study, columns)
    study = private(study)
    parameters = [p for p in study.model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(
            "no parameter of the model requires a gradient; call model.requires_grad_(True)."
        )
    size = sum(parameter.numel() for parameter in parameters)
    seen = trace(study.model, study.call(study.batch(chosen[:1])))
    blocks = chosen.split(max(1, _BLOCK // size))
    products = []
    calm = undisturbed(random=seen.random, counting=seen.counting)
    with calm, calm, torch.enable_grad():
        for block in slow(blocks, "gradient products", progress=progress):
            held = torch.stack(list(_gradients(study, block, parameters)))
            passing = _gradients(study, others, parameters)
            products.append(torch.stack([held @ gradient for gradient in passing], 1))
    return torch.cat(products).cpu()


def _gradients(
    study: Study, examples: Tensor, parameters: Sequence[nn.Parameter]
) -> Iterator[Tensor]:
    """Each example's gradient of all parameters, float64 ``[parameters]``."""
    for example in examples[:, None]:
        outputs = study.task.outputs(study.call(study.batch(example))())
        loss = study.task.loss(outputs, study.labels[example].to(outputs.device)).sum()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        dense = [g.to_dense() if g.is_sparse else g for g in gradients]
        yield torch.cat([gradient.flatten().double() for gradient in dense])
