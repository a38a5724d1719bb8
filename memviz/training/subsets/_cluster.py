"""Trainings on a Dask cluster, by Dask itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

_AHEAD = 2  # trainings that are sent, for each thread of the cluster
_SMALL = 10**7  # bytes that go along with each training, so that no worker's end can lose them


def client_of(backend: Any) -> Any | None:
    """The client of joblib's Dask backend; None for any other backend."""
    return backend.client if type(backend).__name__ == "DaskDistributedBackend" else None


def over_dask(
    client: Any,
    call: Callable[..., Any],
    arrays: tuple[Any, ...],
    rest_of_each: Iterator[tuple[Any, ...]],
) -> Iterator[Any]:
    """Results of ``call(arrays, *rest)`` as they come, in any order.

    Small arrays go along with each call, large ones to every worker once. A result's future is let
    go as soon as the result is here: joblib holds the last one, and when its worker is lost, Dask
    would train again for it.

    Parameters
    ----------
    client : distributed.Client
    call : callable
    arrays : tuple
    rest_of_each : iterator of tuples
        The other arguments of each call; read as far ahead as there is work to send.
    """
    import distributed
    from dask.sizeof import sizeof

    shared: Any = arrays
    if sizeof(arrays) > _SMALL:
        [shared] = client.scatter([arrays], broadcast=True, hash=False)
    pending: set[Any] = set()
    done: Any = distributed.as_completed(with_results=True)  # type: ignore[no-untyped-call]

    def send() -> None:
        room = max(1, _AHEAD * sum(client.ncores().values())) - len(pending)
        for rest in islice(rest_of_each, max(0, room)):
            future = client.submit(call, shared, *rest, pure=False)
            pending.add(future)
            done.add(future)

    try:
        send()
        for future, result in done:
            pending.discard(future)
            future.release()
            if isinstance(result, BaseException):  # of a call that was cancelled
                raise result
            send()
            yield result
    finally:
        with suppress(Exception):  # the cluster may be gone
            client.cancel(list(pending), force=True)
