"""The retrieval of a déjà vu test: captions against public embeddings, beside FAISS's flat index.

    python -m benchmarks deja_vu

1,000 captions look up 10 of 100,000 public images by cosine. Embeddings of a CLIP model are
clustered, so the public rows lie around 2,000 scenes (cosine of about 0.8 to their own scene), and
each caption near one of them. Times are CPU seconds of one thread; FAISS gets normalized rows, and
adding them is not timed, while everything memviz does is. The whole test is timed, too: retrieval
under target and reference, their objects, and the gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.neighbours import brute_force
from benchmarks.report import about, parser, show, significant
from benchmarks.timing import in_turn, one_thread
from memviz.engine.search import nearest
from memviz.probes.deja_vu import Embedded, two_model_test

CAPTIONS, PUBLIC, FEATURES, K, KINDS = 1000, 100_000, 512, 10, 80
SCENES, SPREAD = 2000, 0.5


def measure(
    captions: int = CAPTIONS,
    public: int = PUBLIC,
    features: int = FEATURES,
    k: int = K,
    repeats: int = 3,
) -> dict[str, Any]:
    """Medians, spread, ratio, and whether the neighbours agree with FAISS and are correct."""
    sides = [embedded(captions, public, features, seed) for seed in (0, 1)]
    generator = torch.Generator().manual_seed(2)
    own, shown = (torch.rand(n, KINDS, generator=generator) < 0.04 for n in (captions, public))
    own[0, 0] = True  # at least one picture shows an object, however few there are
    queries, index = sides[0].captions, sides[0].public
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: nearest(queries, index, k, progress=False),
        "whole_test": lambda: two_model_test(*sides, own, shown, k=k, progress=False).summary(),
    }
    faiss = faiss_flat(queries, index, k)
    if faiss is not None:
        ways["faiss"] = faiss
    with one_thread(), threadpool_limits(1):
        timings = in_turn(ways, repeats)
        ours = ways["ours"]()
        true = brute_force(normalize(queries.double()), normalize(index.double()), k)
    found: dict[str, Any] = {"captions": captions, "public": public, "features": features, "k": k}
    for name, timing in timings.items():
        found |= {f"{name}_s": significant(timing.median)}
        found |= {f"{name}_spread": significant(timing.spread, 2)}
    found |= {"path": ours.engine, "right_ids": bool((ours.ids == true.indices).all())}
    if faiss is None:
        return {**found, "ratio_faiss": "not installed", "repeats": repeats}
    ids = torch.from_numpy(faiss()[1])
    found["ratio_faiss"] = significant(timings["faiss"].median / timings["ours"].median)
    found["identical_ids"] = bool((ids == ours.ids).all())
    found["ids_other_than_faiss"] = int((ids != ours.ids).sum())
    return {**found, "repeats": repeats}


def embedded(captions: int, public: int, features: int, seed: int) -> Embedded:
    """Public rows around scenes, and captions that each lie near one of these rows."""
    generator = torch.Generator().manual_seed(seed)
    scenes = torch.randn(SCENES, features, generator=generator)
    mine = torch.randint(SCENES, (public,), generator=generator)
    images = scenes[mine] + SPREAD * torch.randn(public, features, generator=generator)
    told = images[torch.randint(public, (captions,), generator=generator)]
    texts = told + SPREAD * torch.randn(captions, features, generator=generator)
    return Embedded(normalize(texts), normalize(images))


def faiss_flat(queries: Tensor, index: Tensor, k: int) -> Callable[[], Any] | None:
    """FAISS's exact index by inner product on one thread, or None where it is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    faiss.omp_set_num_threads(1)
    flat = faiss.IndexFlatIP(index.shape[1])
    flat.add(index.numpy())
    return lambda: flat.search(queries.numpy(), k)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("deja_vu", __doc__)
    arguments.add_argument("--repeats", type=int, default=3)
    chosen = arguments.parse_args(argv)
    with one_thread():
        show({**measure(repeats=chosen.repeats), "about": about()}, as_json=chosen.json)


if __name__ == "__main__":
    main()
