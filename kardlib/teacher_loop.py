"""An event loop with a thread of its own, so that code which is not asynchronous can wait for it, in a notebook too."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent import futures
from typing import Any, TypeVar

T = TypeVar("T")


def run_in_thread(main: Callable[[], Coroutine[Any, Any, T]], interrupt: Callable[[], None] | None = None) -> T:
    """Run ``main()`` to its end.

    Args:
        interrupt: called within the loop at the first Ctrl-C, to let ``main`` end in order; the second cancels it.
            Without it the first one does.
    """
    result: futures.Future[T] = futures.Future()
    cancel: list[Callable[[], object]] = []

    async def told() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if interrupt is not None:
            cancel.append(lambda: loop.call_soon_threadsafe(interrupt))
        cancel.append(lambda: loop.call_soon_threadsafe(task.cancel))
        return await main()

    def thread() -> None:
        try:
            result.set_result(asyncio.run(told()))
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=thread, name="teacher", daemon=True).start()
    while not result.done():
        try:
            futures.wait((result,), timeout=0.5)  # Windows tells of Ctrl-C between waits only
        except KeyboardInterrupt:
            with contextlib.suppress(RuntimeError):  # the loop is over
                (cancel.pop(0) if len(cancel) > 1 else cancel[0])()
    if isinstance(result.exception(), asyncio.CancelledError):
        raise KeyboardInterrupt
    return result.result()
