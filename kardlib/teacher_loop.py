"""An event loop with a thread of its own, so that code which is not asynchronous can wait for it, in a notebook too."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent import futures
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


def run_in_thread(main: Callable[[], Coroutine[Any, Any, T]], interrupt: Callable[[], None] | None = None) -> T:
    """Run ``main()`` to its end.

    Args:
        interrupt: called within the loop at the first Ctrl-C, to let ``main`` end in order; the second cancels it.
            Without it the first one does.
    """
    result: futures.Future[T] = futures.Future()
    ways_out: list[Callable[[], object]] = []

    async def told() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        ends = [task.cancel] if interrupt is None else [interrupt, task.cancel]
        ways_out.extend(partial(loop.call_soon_threadsafe, end) for end in ends)
        return await main()

    def thread() -> None:
        try:
            result.set_result(asyncio.run(told()))
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=thread, name="teacher", daemon=True).start()
    _wait(result, ways_out)
    if isinstance(result.exception(), asyncio.CancelledError):
        raise KeyboardInterrupt
    return result.result()


def _wait(result: futures.Future[T], ways_out: list[Callable[[], object]]) -> None:
    """Wait for the result; each Ctrl-C takes the next way out, and then the last again."""
    while not result.done():
        try:
            futures.wait((result,), timeout=0.5)  # Windows tells of Ctrl-C between waits only
        except KeyboardInterrupt:
            if ways_out:  # else it has not begun
                with contextlib.suppress(RuntimeError):  # the loop is over
                    (ways_out.pop(0) if len(ways_out) > 1 else ways_out[0])()
