"""The one thread that computes: what goes first, what is dropped, what a failure leaves."""

import sys
import threading
import time
from collections.abc import Iterator

import pytest

from memviz.widgets.core import Worker, _threads, _worker, start

WAIT = 20  # s before a test that hangs fails


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def failures() -> list[Exception]:
    return []


@pytest.fixture
def worker(failures: list[Exception]) -> Worker:
    return Worker(failures.append, threaded=False)


@pytest.fixture
def threaded(failures: list[Exception]) -> Iterator[Worker]:
    found = Worker(failures.append)
    yield found
    found.close()


def steps(log: list[str], name: str, count: int) -> Iterator[None]:
    for step in range(count):
        log.append(f"{name}{step}")
        yield


def test_the_newest_answer_wins(worker: Worker, log: list[str]) -> None:
    for name in "abc":
        worker.answer(lambda name=name: log.append(name))
    worker.run_until_idle()
    assert log == ["c"]
    assert not worker.answer_waits


def test_nothing_runs_before_it_is_asked_to(worker: Worker, log: list[str]) -> None:
    worker.answer(lambda: log.append("answer"))
    worker.work("sweep", steps(log, "s", 1), rank=0)
    assert log == []
    assert worker.answer_waits


def test_an_answer_goes_between_two_steps_of_work(worker: Worker, log: list[str]) -> None:
    def clicking() -> Iterator[None]:
        for step in range(3):
            log.append(f"s{step}")
            if step == 1:
                worker.answer(lambda: log.append("answer"))
                assert worker.answer_waits
            yield

    worker.work("sweep", clicking(), rank=2)
    worker.run_until_idle()
    assert log == ["s0", "s1", "answer", "s2"]


def test_work_goes_by_rank(worker: Worker, log: list[str]) -> None:
    worker.work("sweep", steps(log, "s", 2), rank=2)
    worker.work("random", steps(log, "r", 2), rank=0)
    worker.work("example", steps(log, "e", 2), rank=1)
    worker.answer(lambda: log.append("answer"))
    worker.run_until_idle()
    assert log == ["answer", "r0", "r1", "e0", "e1", "s0", "s1"]


def test_work_of_the_same_name_replaces_the_older(worker: Worker, log: list[str]) -> None:
    def replacing() -> Iterator[None]:
        log.append("old")
        worker.work("sweep", steps(log, "new", 2), rank=2)
        yield
        log.append("never")

    worker.work("sweep", replacing(), rank=2)
    worker.run_until_idle()
    assert log == ["old", "new0", "new1"]


def test_work_that_replaces_itself_in_its_last_step_is_not_forgotten(
    worker: Worker, log: list[str]
) -> None:
    def last() -> Iterator[None]:
        worker.work("sweep", steps(log, "new", 1), rank=2)
        return
        yield

    worker.work("sweep", last(), rank=2)
    worker.run_until_idle()
    assert log == ["new0"]


def test_a_failure_is_reported_and_the_rest_goes_on(
    worker: Worker, log: list[str], failures: list[Exception]
) -> None:
    def broken() -> Iterator[None]:
        log.append("b0")
        yield
        raise RuntimeError("in a step")

    def answer() -> None:
        raise ValueError("in an answer")

    worker.work("random", broken(), rank=0)
    worker.work("sweep", steps(log, "s", 1), rank=2)
    worker.answer(answer)
    worker.run_until_idle()
    assert [str(error) for error in failures] == ["in an answer", "in a step"]
    assert log == ["b0", "s0"]


def test_a_failed_answer_leaves_the_work_alone(
    worker: Worker, log: list[str], failures: list[Exception]
) -> None:
    def answer() -> None:
        raise ValueError("no")

    worker.work("sweep", steps(log, "s", 2), rank=2)
    worker.answer(answer)
    worker.run_until_idle()
    assert log == ["s0", "s1"]
    assert len(failures) == 1


def test_drop_says_whether_there_was_any(worker: Worker, log: list[str]) -> None:
    worker.work("sweep", steps(log, "s", 3), rank=2)
    assert worker.drop("sweep")
    assert not worker.drop("sweep")
    worker.run_until_idle()
    assert log == []


def test_the_thread_starts_with_the_first_job_and_ends_with_close(threaded: Worker) -> None:
    assert threaded._thread is None
    done = threading.Event()
    threaded.answer(done.set)
    assert done.wait(WAIT)
    thread = threaded._thread
    assert thread is not None and thread.daemon
    threaded.close()
    thread.join(WAIT)
    assert not thread.is_alive()


def test_an_idle_thread_ends_and_the_next_job_starts_another(
    threaded: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_worker, "_LINGER", 0.01)
    for _ in range(2):
        done = threading.Event()
        threaded.work("sweep", (done.set() for _ in range(1)), rank=0)
        thread = threaded._thread
        assert done.wait(WAIT)
        if thread is not None:
            thread.join(WAIT)
        assert threaded._thread is None


def test_close_ends_the_thread_in_the_middle_of_work(threaded: Worker, log: list[str]) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def long() -> Iterator[None]:
        log.append("first")
        begun.set()
        assert go_on.wait(WAIT)
        yield
        log.append("never")

    threaded.work("sweep", long(), rank=2)
    assert begun.wait(WAIT)
    thread = threaded._thread
    assert thread is not None
    threaded.close()
    go_on.set()
    thread.join(WAIT)
    assert not thread.is_alive()
    assert log == ["first"]


def test_a_waiting_answer_is_replaced_while_another_runs(threaded: Worker, log: list[str]) -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        assert go_on.wait(WAIT)
        log.append("slow, stale" if threaded.answer_waits else "slow")

    threaded.answer(slow)
    assert begun.wait(WAIT)
    for name in "ab":
        threaded.answer(lambda name=name: log.append(name))
    threaded.answer(lambda: (log.append("last"), done.set()))  # type: ignore[arg-type, func-returns-value]
    go_on.set()
    assert done.wait(WAIT)
    assert log == ["slow, stale", "last"]


def test_the_thread_outlives_a_failure(threaded: Worker, failures: list[Exception]) -> None:
    told, done = threading.Event(), threading.Event()
    threaded._failed = lambda error: (failures.append(error), told.set())  # type: ignore[assignment]

    def broken() -> None:
        raise RuntimeError("no")

    threaded.answer(broken)
    assert told.wait(WAIT)
    threaded.answer(done.set)
    assert done.wait(WAIT)
    assert [str(error) for error in failures] == ["no"]


def test_many_threads_may_ask_at_once(threaded: Worker, log: list[str]) -> None:
    start, ended = threading.Barrier(8), threading.Event()

    def asking(name: int) -> None:
        start.wait(WAIT)
        for k in range(50):
            threaded.answer(lambda: log.append("answer"))
            threaded.work(f"work {name}", steps(log, f"{k} of {name} ", 1), rank=name)

    threads = [threading.Thread(target=asking, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    threaded.work("end", (ended.set() for _ in range(1)), rank=99)
    assert ended.wait(WAIT)
    # Whatever was replaced on the way, the last work of each thread was done.
    assert {f"49 of {name} 0" for name in range(8)} <= set(log)


# Ends and failures --------------------------------------------------------------------------------


def test_the_thread_outlives_a_failure_that_cannot_be_told(threaded: Worker) -> None:
    def failed(_: BaseException) -> None:
        raise ConnectionError("nobody listens")

    threaded._failed = failed  # type: ignore[method-assign]
    for job in (lambda: 1 / 0, sys.exit, lambda: 1 / 0):
        threaded.answer(job)
    threaded.work("sweep", iter(lambda: 1 / 0, 0), rank=0)  # type: ignore[arg-type]
    done = threading.Event()
    threaded.work("end", (done.set() for _ in range(1)), rank=9)
    assert done.wait(WAIT)


def test_sys_exit_in_a_model_is_reported(threaded: Worker, failures: list[Exception]) -> None:
    done = threading.Event()
    threaded.work("sweep", (sys.exit("over") for _ in range(1)), rank=0)
    threaded.work("end", (done.set() for _ in range(1)), rank=9)
    assert done.wait(WAIT)
    assert [str(error) for error in failures] == ["over"]


def test_several_threads_may_wait_for_a_job(threaded: Worker, log: list[str]) -> None:
    waiting = [
        threading.Thread(target=threaded.run_first, args=(lambda: log.append("job"),))
        for _ in range(20)
    ]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join(WAIT)
        assert not thread.is_alive()
    assert len(log) == 20


def test_waiting_for_a_job_ends_where_the_worker_is_closed(
    threaded: Worker, log: list[str]
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        go_on.wait(WAIT)

    threaded.answer(slow)
    assert begun.wait(WAIT)
    waiting = threading.Thread(target=threaded.run_first, args=(lambda: log.append("job"),))
    waiting.start()
    threaded.close()
    waiting.join(WAIT)
    assert not waiting.is_alive() and log == ["job"]
    go_on.set()
    threaded.join()


def test_a_job_that_the_thread_itself_waits_for_runs_at_once(
    threaded: Worker, log: list[str]
) -> None:
    done = threading.Event()
    threaded.answer(lambda: threaded.run_first(lambda: (log.append("job"), done.set())))  # type: ignore[arg-type, func-returns-value]
    assert done.wait(WAIT) and log == ["job"]


def test_after_close_nothing_begins(threaded: Worker, log: list[str]) -> None:
    threaded.close()
    threaded.answer(lambda: log.append("never"))
    assert threaded._thread is None
    threaded.run_first(lambda: log.append("waited for"))
    assert log == ["waited for"]


def test_a_thread_that_never_returns_is_ended_with_the_interpreter() -> None:
    caught: list[str] = []

    def stubborn() -> None:
        while True:
            try:
                time.sleep(0.001)
            except Exception:
                caught.append("wrongly")

    thread = start(stubborn, "stubborn", lambda: None)
    _threads.end_all()
    assert not thread.is_alive() and caught == []
    assert thread not in _threads._RUNNING
