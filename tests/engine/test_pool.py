"""The pool: every call is made, none waits for a slow one, and after the last comes a turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty
from typing import Any

import pytest

from orchestrator.engine.pool import Mailbox, ThreadPool
from orchestrator.engine.workers import Answer, Flight, Progress


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    made = ThreadPool()
    yield made
    made.close()


def test_slow_calls_run_side_by_side(pool: ThreadPool) -> None:
    together = threading.Barrier(8, timeout=10)
    through = threading.Semaphore(0)

    def slow() -> None:
        together.wait()
        through.release()

    for _ in range(8):
        pool.submit(slow)
    assert all(through.acquire(timeout=10) for _ in range(8))


def test_a_call_that_hangs_holds_up_neither_later_calls_nor_turns(pool: ThreadPool) -> None:
    release, turns = threading.Event(), threading.Semaphore(0)
    pool.attend(turns.release)
    pool.submit(lambda: None)
    pool.submit(lambda: release.wait(10) and None)
    pool.submit(lambda: None)
    assert turns.acquire(timeout=10)
    pool.submit(lambda: None)
    assert turns.acquire(timeout=10)
    release.set()


def test_a_chain_goes_on_in_one_thread(pool: ThreadPool) -> None:
    """A turn that submits one call has it made by the thread that took the turn."""
    idents: list[int] = []
    done = threading.Event()

    def turn() -> None:
        if len(idents) < 100:
            pool.submit(lambda: idents.append(threading.get_ident()))
        else:
            done.set()

    pool.attend(turn)
    pool.submit(lambda: None)
    assert done.wait(10)
    assert len(idents) == 100
    assert len(set(idents)) == 1


@pytest.mark.parametrize("count", [1, 2, 50])
def test_nothing_is_lost_however_turns_and_calls_interleave(pool: ThreadPool, count: int) -> None:
    """Each turn that has heard of all calls of a round submits the next round."""
    heard: list[None] = []
    rounds, done, baton = [0], threading.Event(), threading.Lock()

    def call() -> None:
        heard.append(None)

    def turn() -> None:
        with baton:
            if len(heard) < count * rounds[0]:
                return
            if rounds[0] == 30:
                done.set()
                return
            rounds[0] += 1
            for _ in range(count):
                pool.submit(call)

    pool.attend(turn)
    pool.submit(lambda: None)
    assert done.wait(20), (len(heard), rounds)
    assert len(heard) == 30 * count


def test_mail_stays_in_order_and_only_what_is_no_answer_wakes(tools: Any) -> None:
    box = Mailbox()
    flight = Flight(tools.step("a"), "perform", 1, 0.0, 1.0)
    box.put(Answer(flight, 0.1))
    with pytest.raises(Empty):
        box.get(timeout=0.01)
    box.put(Progress(flight, "half", 0.5))
    box.get(timeout=0.01)
    first, second = box.take(), box.take()
    assert isinstance(first, Answer)
    assert isinstance(second, Progress)
    assert box.take() is None


def test_idle_threads_end_when_the_pool_is_closed() -> None:
    pool, ran = ThreadPool(), threading.Event()
    threads: list[threading.Thread] = []

    def call() -> None:
        threads.append(threading.current_thread())
        ran.set()

    pool.submit(call)
    assert ran.wait(10)
    pool.close()
    threads[0].join(10)
    assert not threads[0].is_alive()
