"""Blocks of mv.ablate in any order: several at once, threads, generators, tasks, exceptions."""

from __future__ import annotations

import asyncio
import copy
import random
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from queue import Queue
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.engine.gradients import gradient_norms

UNITS = ("0:1", "0:2,5", "2:3", "2:0 0:7")


def made() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)]
    return nn.Sequential(*layers).eval()


@pytest.fixture
def net() -> nn.Module:
    return made()


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def expected(inputs: Tensor, ablated: list[str]) -> Tensor:
    """The answer of a copy whose activations are multiplied by 0."""
    value, units = inputs, mv.UnitSet()
    for text in ablated:
        units |= mv.UnitSet.parse(text)
    for name, module in made().named_children():
        value = module(value)
        layer = str(int(name) - 1)
        if isinstance(module, nn.ReLU) and layer in units.layers:
            value[:, list(units.layers[layer])] = 0.0
    return value


def state(net: nn.Module) -> list[Any]:
    """All that the modules hold, hooks included."""
    return [
        {key: dict(v) if isinstance(v, dict) else v for key, v in vars(module).items()}
        for module in net.modules()
    ]


def agrees(net: nn.Module, inputs: Tensor, ablated: list[str]) -> None:
    with torch.no_grad():
        torch.testing.assert_close(net(inputs), expected(inputs, ablated), atol=1e-6, rtol=1e-5)


class Hand:
    """Enters and leaves blocks, and calls the model, all in one thread of its own."""

    def __init__(self) -> None:
        self.orders: Queue[Any] = Queue()
        self.answers: Queue[Any] = Queue()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while (order := self.orders.get()) is not None:
            try:
                self.answers.put(order())
            except BaseException as error:
                self.answers.put(error)

    def do(self, order: Any) -> Any:
        self.orders.put(order)
        answer = self.answers.get(timeout=30)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.mark.parametrize("seed", range(12))
def test_random_orders_in_three_threads(net: nn.Module, inputs: Tensor, seed: int) -> None:
    before, draw = state(net), random.Random(seed)
    hands = [Hand() for _ in range(3)]
    open_blocks: list[list[tuple[AbstractContextManager[Any], str]]] = [[] for _ in hands]
    for _ in range(40):
        number = draw.randrange(3)
        hand, mine = hands[number], open_blocks[number]
        kind = draw.choice(["enter", "leave", "raise", "call", "call"])
        if kind == "enter":
            units = draw.choice(UNITS)
            block = mv.ablate(net, units)
            hand.do(block.__enter__)
            mine.append((block, units))
        elif kind in ("leave", "raise") and mine:
            block, _ = mine.pop(draw.randrange(len(mine)))
            error = ValueError("from the block") if kind == "raise" else None
            kinds = (type(error), error, None) if error else (None, None, None)
            if kind == "leave":
                # A block that no call came to says so at its end.
                hand.do(lambda: net(inputs))
                hand.do(lambda b=block, k=kinds: b.__exit__(*k))
            else:
                with pytest.raises(ValueError, match="from the block"):
                    hand.do(lambda b=block, k=kinds: _raise_unless(b.__exit__(*k), k[1]))
        for other, theirs in zip(hands, open_blocks, strict=True):
            other.do(lambda names=[u for _, u in theirs]: agrees(net, inputs, names))
    for hand, theirs in zip(hands, open_blocks, strict=True):
        for block, _ in theirs:
            hand.do(lambda b=block: b.__exit__(None, None, None))
        hand.orders.put(None)
    agrees(net, inputs, [])
    assert state(net) == before


def _raise_unless(handled: bool | None, error: BaseException) -> None:
    if not handled:
        raise error


def test_first_in_first_out(net: nn.Module, inputs: Tensor) -> None:
    before = state(net)
    first, second = mv.ablate(net, "0:1"), mv.ablate(net, "2:3")
    first.__enter__()
    second.__enter__()
    agrees(net, inputs, ["0:1", "2:3"])
    first.__exit__(None, None, None)
    agrees(net, inputs, ["2:3"])
    second.__exit__(None, None, None)
    agrees(net, inputs, [])
    assert state(net) == before


def test_generators_that_end_in_another_order(net: nn.Module, inputs: Tensor) -> None:
    def held(units: str) -> Iterator[None]:
        with mv.ablate(net, units):
            while True:
                net(inputs)
                yield

    before = state(net)
    first, second = held("0:1"), held("2:3")
    next(first), next(second)  # type: ignore[call-overload]
    agrees(net, inputs, ["0:1", "2:3"])
    first.close()  # type: ignore[attr-defined]
    agrees(net, inputs, ["2:3"])
    del second  # the garbage collector ends it
    agrees(net, inputs, [])
    assert state(net) == before


def test_a_block_may_end_in_another_thread(net: nn.Module, inputs: Tensor) -> None:
    before, hand = state(net), Hand()
    block = mv.ablate(net, "0:1")
    hand.do(block.__enter__)
    hand.do(lambda: agrees(net, inputs, ["0:1"]))
    block.__exit__(None, None, None)
    hand.do(lambda: agrees(net, inputs, []))
    agrees(net, inputs, [])
    assert state(net) == before
    with mv.ablate(net, "2:3"):
        agrees(net, inputs, ["2:3"])
        hand.do(lambda: agrees(net, inputs, []))
    again = mv.ablate(net, "2:0")
    hand.do(again.__enter__)
    hand.do(lambda: agrees(net, inputs, ["2:0"]))
    hand.do(lambda: again.__exit__(None, None, None))
    assert state(net) == before


def test_tasks_of_one_thread_add_up(net: nn.Module, inputs: Tensor) -> None:
    before = state(net)

    async def run(units: str, ticks: int) -> None:
        with mv.ablate(net, units):
            net(inputs)
            for _ in range(ticks):
                await asyncio.sleep(0)

    async def both() -> None:
        first = asyncio.ensure_future(run("0:1", 2))
        second = asyncio.ensure_future(run("2:3", 5))
        await asyncio.sleep(0)
        agrees(net, inputs, ["0:1", "2:3"])
        await first
        agrees(net, inputs, ["2:3"])
        await second

    Hand().do(lambda: asyncio.run(both()))  # a browser test may have left a loop in this thread
    agrees(net, inputs, [])
    assert state(net) == before


def test_an_engine_beside_a_block_is_of_the_plain_model(net: nn.Module, inputs: Tensor) -> None:
    study = mv.Study(net, inputs, torch.zeros(5), {"test": range(5)})
    clean, hand = mv.readout(study, "0:1", random_draws=0), Hand()
    with mv.ablate(net, "2:3"):
        net(inputs)
        beside = hand.do(lambda: mv.readout(study, "0:1", random_draws=0))
    assert str(beside) == str(clean)


def test_a_call_of_the_model_beside_memviz_is_plain(net: nn.Module, inputs: Tensor) -> None:
    """Engines, attributions and encoders work while another thread calls the model."""
    labels = torch.zeros(5, dtype=torch.int64)
    study = mv.Study(net, inputs, labels, {"test": range(5)})
    before, wanted = state(net), net(inputs).detach()
    wrong, done = [], threading.Event()

    def call() -> None:
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()]
        with torch.no_grad():
            if any(hooks) or not torch.equal(net(inputs), wanted):
                wrong.append(hooks)

    def keep_calling() -> None:
        while not done.is_set():
            call()

    thread = threading.Thread(target=keep_calling)
    thread.start()
    try:
        for _ in range(3):
            mv.sweep(study, progress=False)
            mv.estimate(study)
            mv.greedy(study, 2, progress=False, random_draws=1)
            mv.readout(study, "0:1 2:3", random_draws=2)
            gradient_norms(study, progress=False)
            mv.attribute_layers(study, [0, 1], null_draws=1)
            mv.attribute_inputs(study, [0, 1], units="0:1")
            mv.attribute_unit(study, "0:1", [0])
    finally:
        done.set()
        thread.join()
    assert not wrong
    assert state(net) == before
    assert copy.deepcopy(net) is not net


def test_random_numbers_beside_memviz_come_in_their_order(net: nn.Module, inputs: Tensor) -> None:
    """Work in a background thread neither draws nor puts a state back."""
    labels = torch.zeros(5, dtype=torch.int64)

    def drawn(times: int) -> list[float]:
        return [
            value
            for _ in range(times)
            for value in (float(torch.rand(())), random.random(), float(np.random.rand()))  # noqa: NPY002
        ]

    def seeded() -> None:
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002

    done = threading.Event()

    def work() -> None:
        for _ in range(4):
            study = mv.Study(net, inputs, labels, {"test": range(5)})
            mv.sweep(study, progress=False)
            mv.readout(study, "0:1 2:3", random_draws=2)
            mv.attribute_inputs(study, [0, 1], units="0:1")
        done.set()

    seeded()
    thread = threading.Thread(target=work)
    thread.start()
    beside: list[float] = []
    while not done.is_set():
        beside += drawn(5)
    thread.join()
    seeded()
    assert beside == drawn(len(beside) // 3)
