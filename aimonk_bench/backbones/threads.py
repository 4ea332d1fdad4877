"""Work that threads share, results in the order of the work and in bounded memory; and the threads of torch."""

from __future__ import annotations

import collections
import contextlib
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from aimonk_bench.records.environment import cores

T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T | None], count: int | None = None) -> Generator[R]:
    """The result of ``work`` for each item, in the order of the items.

    The items are drawn in the thread of the caller, at most two for each core ahead of the result that is wanted next.
    At an error or Ctrl-C, items that no thread has begun are dropped.

    Args:
        work: runs in any of the threads.
        items: None says that the next item may take long: the results of all items before it come first.
        count: of threads; default one for each core.
    """
    number = count or cores()
    pool, waiting = ThreadPoolExecutor(number), collections.deque[Future[R]]()
    try:
        for item in items:
            if item is not None:
                waiting.append(pool.submit(work, item))
            while waiting and (item is None or len(waiting) > 2 * number or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set the number of torch's threads, if torch is imported, and restore the previous number at the end."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
