"""No answer depends on who else is asked, on order, on batches or on numbers given to labels.

Every probe of information, déjà vu, SSL déjà vu and of nearest neighbours is listed here once,
under what it gives a value to; a new one is a decorated function more. All data hold ties: equal
public images, equal captions, units that are often 0.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.engine.activations import binned_mutual_information, joint_histograms
from memviz.engine.search import embed, nearest
from memviz.probes import deja_vu, deja_vu_ssl, information

N, M, KINDS, FEATURES = 48, 36, 7, 6
Values = Tensor | np.ndarray | Sequence[Tensor | np.ndarray]

OF_EXAMPLES: dict[str, Callable[[Tensor, int], Values]] = {}
OF_SETS: dict[str, Callable[[Tensor], Values]] = {}
OF_UNITS: dict[str, Callable[[Tensor], Tensor]] = {}
OF_PUBLIC: dict[str, Callable[[Tensor, Tensor], Values]] = {}


def of_examples(probe: Callable[[Tensor, int], Values]) -> None:
    """A probe of the examples ``ids``, in batches of ``batch``: one row per example, in order."""
    OF_EXAMPLES[probe.__name__] = probe


def of_sets(probe: Callable[[Tensor], Values]) -> None:
    """A probe that gives a value to a whole set: ``ids`` are its examples in some order."""
    OF_SETS[probe.__name__] = probe


def of_units(probe: Callable[[Tensor], Tensor]) -> None:
    """A probe of the units ``columns``: ``[units]``, or ``[units, units]`` for pairs."""
    OF_UNITS[probe.__name__] = probe


def of_public(probe: Callable[[Tensor, Tensor], Values]) -> None:
    """A probe that searches a public set: its rows and its labels' numbers in some order.

    ``labels[c]`` is the number that class c is given.
    """
    OF_PUBLIC[probe.__name__] = probe


# The data


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def captions_with_two_equal(seed: int) -> Tensor:
    captions = drawn(seed, N, FEATURES)
    captions[2] = captions[1]
    return captions


CAPTIONS = [captions_with_two_equal(seed) for seed in (0, 1)]
PUBLIC = [drawn(seed, M // 3, FEATURES).repeat(3, 1) for seed in (2, 3)]  # each image three times
OWN, SHOWN = drawn(4, N, KINDS) > 0.3, drawn(5, M, KINDS) > 0.3
OWN[:, 0] |= ~OWN.any(1)  # an image without objects cannot be asked alone
LABELS, PUBLIC_LABELS = torch.arange(N) % KINDS, torch.arange(M) * 5 % KINDS
ACTIVATIONS = torch.cat([drawn(6, N, 3), (drawn(8, N, 3) - 0.5).relu(), drawn(9, N, 2).round()], 1)


@cache
def study() -> mv.Study:
    model = nn.Sequential(
        nn.Linear(FEATURES, 9), nn.ReLU(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 2)
    ).eval()
    for seed, weight in enumerate(model.parameters()):
        weight.data = drawn(seed, *weight.shape).mul(4).round() / 4  # no product is rounded
    inputs = drawn(10, N, FEATURES).mul(4).round() / 4
    return mv.Study(model, inputs, torch.zeros(N), {"all": range(N)})


def two_models(ids: Tensor, top: int | None = 3, null: Tensor | None = None) -> deja_vu.DejaVu:
    held_out = torch.arange(N) if null is None else null
    sides = [
        deja_vu.Embedded(captions[ids], public, captions.roll(5, 0)[held_out])
        for captions, public in zip(CAPTIONS, PUBLIC, strict=True)
    ]
    held_out_objects = OWN.roll(5, 0)[held_out]
    return deja_vu.two_model_test(
        *sides, OWN[ids], SHOWN, held_out_objects=held_out_objects, k=4, top=top, progress=False
    )


def ssl(ids: Tensor, null: Tensor | None = None) -> deja_vu_ssl.SSLDejaVu:
    held_out = None if null is None else (CAPTIONS[1][null], LABELS[null])
    return deja_vu_ssl.ssl_test(
        lambda rows: rows,
        lambda rows: rows.roll(1, 1),
        CAPTIONS[0][ids],
        LABELS[ids],
        PUBLIC[0],
        PUBLIC_LABELS,
        held_out=held_out,
        k=4,
        progress=False,
    )


# Probes of examples


@of_examples
def neighbours(ids: Tensor, batch: int) -> Values:
    found = [
        nearest(CAPTIONS[0][part], PUBLIC[0], 4, measure=measure, screen=screen, progress=False)
        for part in ids.split(batch)
        for measure in ("cosine", "euclidean", "dot")
        for screen in (False, True)
    ]
    sets = [found[i::6] for i in range(6)]
    return [torch.cat([getattr(f, n) for f in some]) for some in sets for n in ("ids", "values")]


@of_examples
def embeddings(ids: Tensor, batch: int) -> Values:
    return embed(lambda rows: 2 * rows, CAPTIONS[0][ids], batch=batch, progress=False)


@of_examples
def activations(ids: Tensor, batch: int) -> Values:
    parts = ids.split(batch)
    return torch.cat(
        [information.unit_values(study(), None, p, progress=False).values for p in parts]
    )


@of_examples
def pairs(ids: Tensor, batch: int) -> Values:
    columns = []
    for top in (None, 1, 3):
        frames = [two_models(part, top).frame.drop(columns="id") for part in ids.split(batch)]
        columns.append(np.concatenate([frame.to_numpy(float) for frame in frames]))
    return columns


@of_examples
def neighbours_cut_later(ids: Tensor, batch: int) -> Values:
    tests = [two_models(part, None).at(3, 2) for part in ids.split(batch)]
    return np.concatenate([test.frame.drop(columns="id").to_numpy(float) for test in tests])


@of_examples
def votes(ids: Tensor, batch: int) -> Values:
    parts = [
        deja_vu_ssl.vote(CAPTIONS[0][part], PUBLIC[0], PUBLIC_LABELS, 4, progress=False)
        for part in ids.split(batch)
    ]
    names = ("shares", "ranked", "places", "confidence")
    return [torch.cat([getattr(part, name) for part in parts]) for name in names]


@of_examples
def crops_of_images(ids: Tensor, batch: int) -> Values:
    images = drawn(11, N, 1, 8, 8)[ids]
    boxes = [(0, int(i) % 4, 5, 8) for i in ids]
    parts = zip(images.split(batch), range(0, len(ids), batch), strict=True)
    return torch.cat([deja_vu_ssl.crops(p, boxes[s : s + batch], (3, 3)) for p, s in parts])


@of_examples
def quadrants_and_scores(ids: Tensor, batch: int) -> Values:
    tests = [ssl(part) for part in ids.split(batch)]
    words = np.concatenate([test.quadrants for test in tests])
    numbers = np.array([deja_vu_ssl.QUADRANTS.index(word) for word in words])
    return [numbers, np.concatenate([test.scores().values for test in tests])]


# Probes of sets


@of_sets
def entropy_of_units(ids: Tensor) -> Values:
    return [information.unit_entropy(ACTIVATIONS[ids], 9, edges) for edges in ("global", "unit")]


@of_sets
def information_of_pairs(ids: Tensor) -> Values:
    codes = information.quantile_codes(ACTIVATIONS[ids], 5)
    ksg = [
        information.ksg_matrix(ACTIVATIONS[ids], k, scale, progress=False)
        for k in (1, 3)
        for scale in ("rank", "standard", "raw")
    ]
    return [binned_mutual_information(codes, 5), joint_histograms(codes, 5), *ksg]


@of_sets
def entropy_of_a_study(ids: Tensor) -> Values:
    found = information.entropy(study(), examples=ids, bins=9, null_draws=2, progress=False)
    return [found.values, found.null.values]


@of_sets
def information_of_a_study(ids: Tensor) -> Values:
    found = [
        information.pair_information(
            study(), examples=ids, estimator=estimator, null_draws=2, bins=5, progress=False
        )
        for estimator in ("binned", "ksg")
    ]
    return [table for one in found for table in (one.values, one.null)]


@of_sets
def gaps_of_pairs(ids: Tensor) -> Values:
    test = two_models(ids, null=ids)
    return np.array([test.ppg, test.prg, test.aucg, test.null.ppg, test.null.prg, test.null.aucg])


@of_sets
def most_memorized_pairs(ids: Tensor) -> Values:
    tables = [
        two_models(ids, null=ids).most_memorized(by, (0.01, 0.1, 0.29, 0.5, 1.0))
        for by in deja_vu.MEASURES
    ]
    return [table.to_numpy(float) for table in tables]


@of_sets
def nulls_of_scores(ids: Tensor) -> Values:
    tests = two_models(torch.arange(9), null=ids), ssl(torch.arange(9), null=ids)
    return [test.scores().null.values for test in tests]


@of_sets
def accuracies(ids: Tensor) -> Values:
    shares = (0.02, 0.1, 0.29, 0.5, 1.0)
    return np.array([ssl(ids).accuracies(top, share) for top in (1, 3) for share in shares])


@of_sets
def utility(ids: Tensor) -> Values:
    images, shown = PUBLIC[0][ids % M], SHOWN[ids % M]
    queries = drawn(12, KINDS, FEATURES)
    first = deja_vu.precision_of_first(queries, images, shown, 10)
    return np.array([deja_vu.zero_shot(queries, images, shown), first])


# Probes of units


@of_units
def entropy_alone(columns: Tensor) -> Tensor:
    return information.unit_entropy(ACTIVATIONS[:, columns], 9, "unit")


@of_units
def pairs_by_bins(columns: Tensor) -> Tensor:
    codes = information.quantile_codes(ACTIVATIONS[:, columns], 5)
    return binned_mutual_information(codes, 5).fill_diagonal_(0)


@of_units
def pairs_by_neighbours(columns: Tensor) -> Tensor:
    seed = int(columns.sum())  # which must not matter either
    return torch.stack(
        [
            information.ksg_matrix(ACTIVATIONS[:, columns], 3, scale, seed=seed, progress=False)
            for scale in ("rank", "standard", "raw")
        ],
        2,
    ).nan_to_num(0)


# Probes that search a public set


@of_public
def pairs_with_other_label_numbers(rows: Tensor, labels: Tensor) -> Values:
    tables = []
    for top in (None, 1, 2, 3):
        sides = [
            deja_vu.Embedded(captions, public[rows])
            for captions, public in zip(CAPTIONS, PUBLIC, strict=True)
        ]
        own, shown = torch.empty_like(OWN), torch.empty_like(SHOWN)
        own[:, labels], shown[:, labels] = OWN, SHOWN[rows]
        test = deja_vu.two_model_test(*sides, own, shown, k=4, top=top, progress=False)
        tables.append(test.frame.drop(columns="id").to_numpy(float))
        tables.append(test.at(2, top).frame.drop(columns="id").to_numpy(float))
        tables.append(np.array([test.ppg, test.prg, test.aucg]))
    return tables


@of_public
def votes_with_other_label_numbers(rows: Tensor, labels: Tensor) -> Values:
    found = []
    for far in (1, 10**12):  # how far apart the numbers of classes are
        numbers = labels * far
        votes = deja_vu_ssl.vote(
            CAPTIONS[0], PUBLIC[0][rows], numbers[PUBLIC_LABELS[rows]], 4, progress=False
        )
        columns = torch.searchsorted(votes.classes, numbers)
        found += [votes.shares[:, columns], votes.confidence]
        found += [votes.chance(numbers[LABELS], top) for top in (1, 2, 5)]
    return found


# What holds for all of them


def same(one: Values, other: Values) -> None:
    if isinstance(one, Tensor | np.ndarray):
        one, other = [one], [other]
    for left, right in zip(one, other, strict=True):
        np.testing.assert_allclose(np.asarray(left), np.asarray(right), rtol=1e-12, atol=1e-12)


def orders(n: int) -> list[Tensor]:
    return [torch.randperm(n, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]


def rows_of(values: Values, rows: Tensor) -> Values:
    tables = [values] if isinstance(values, Tensor | np.ndarray) else values
    return [table[rows.numpy() if isinstance(table, np.ndarray) else rows] for table in tables]


@pytest.mark.parametrize("name", OF_EXAMPLES)
def test_an_example_keeps_its_value_in_any_company_order_and_batch(name: str) -> None:
    probe = OF_EXAMPLES[name]
    whole = probe(torch.arange(N), N)
    for order in orders(N):
        same(rows_of(probe(order, N), order.argsort()), rows_of(whole, torch.arange(N)))
    for some in (torch.tensor([2]), torch.tensor([1, 17, 2]), torch.arange(5, 40, 3)):
        same(rows_of(probe(some, N), torch.arange(len(some))), rows_of(whole, some))
    for batch in (1, 7):
        same(probe(torch.arange(N), batch), whole)


@pytest.mark.parametrize("name", OF_SETS)
def test_a_set_keeps_its_value_in_any_order(name: str) -> None:
    probe = OF_SETS[name]
    whole = probe(torch.arange(N))
    for order in orders(N):
        same(probe(order), whole)


@pytest.mark.parametrize("name", OF_UNITS)
def test_units_keep_their_values_in_any_company_and_order(name: str) -> None:
    probe, units = OF_UNITS[name], ACTIVATIONS.shape[1]
    whole = probe(torch.arange(units))
    for columns in (*orders(units), torch.tensor([6, 1]), torch.tensor([3, 0, 7])):
        expected = whole[columns] if whole.dim() == 1 else whole[columns][:, columns]
        same(probe(columns), expected)


@pytest.mark.parametrize("name", OF_PUBLIC)
def test_public_rows_and_label_numbers_do_not_matter(name: str) -> None:
    probe = OF_PUBLIC[name]
    whole = probe(torch.arange(M), torch.arange(KINDS))
    for rows, labels in zip(orders(M), orders(KINDS), strict=True):
        same(probe(rows, torch.arange(KINDS)), whole)
        same(probe(torch.arange(M), labels), whole)
        same(probe(rows, labels), whole)


@pytest.mark.parametrize("estimator", ["binned", "ksg"])
def test_pairs_of_a_study_do_not_depend_on_other_layers(estimator: str) -> None:
    settings = {"estimator": estimator, "bins": 5, "null_draws": 2, "per_layer": 4}
    both = information.pair_information(study(), progress=False, **settings)
    alone = information.pair_information(study(), ["2"], progress=False, **settings)
    rows = [both.units.index(unit) for unit in alone.units]
    for table, other in ((both.values, alone.values), (both.null, alone.null)):
        same(table[..., rows, :][..., rows], other)


def test_embeddings_that_have_collapsed_predict_what_the_public_set_shows() -> None:
    """All images tie: each counts by the same share, and none by its place in the public set."""
    flat = [torch.ones(N, FEATURES), torch.ones(M, FEATURES)]
    side = deja_vu.Embedded(*flat)
    for k in (1, 4, M):
        union = deja_vu.two_model_test(
            side, deja_vu.Embedded(*flat, name="r"), OWN, SHOWN, k=k, top=None, progress=False
        ).target
        # The chance that k images of M, drawn without replacement, show an object.
        missed = torch.ones(KINDS, dtype=torch.float64)
        for place in range(k):
            missed *= (M - SHOWN.sum(0) - place).clamp(min=0) / (M - place)
        torch.testing.assert_close(union.right, (OWN * (1 - missed)).sum(1))
        votes = deja_vu_ssl.vote(*flat, PUBLIC_LABELS, k, progress=False)
        torch.testing.assert_close(votes.shares[0], PUBLIC_LABELS.bincount().double() / M)
    first = deja_vu.precision_of_first(torch.ones(KINDS, FEATURES), flat[1], SHOWN, 10)
    assert first == pytest.approx(SHOWN.double().mean().item())
