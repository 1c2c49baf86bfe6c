"""Goes through the Batch API from the first step to the last, and is killed (SIGKILL) at a given one.

Arguments: address, folder, number of asks, requests of a batch at most. A step is each change of the store and each
call of the provider; one dies before every step and after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from teacher_asks import an_ask

from kardlib.teacher_batch import Batches
from kardlib.teacher_batch_files import prepare
from kardlib.teacher_client import Endpoint
from kardlib.teacher_limits import Limits
from kardlib.teacher_store import TeacherStore


def die_at(step: int) -> None:
    """Have the process killed at that step."""
    steps = itertools.count(1)

    def reached() -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    writing, tried = TeacherStore.writing, Batches._tried

    @contextlib.contextmanager
    def written(store: TeacherStore) -> Iterator[object]:
        with writing(store) as connection:
            yield connection
            reached()
        reached()

    async def called(batches: Batches, call: object) -> object:
        reached()
        result = await tried(batches, call)
        reached()
        return result

    TeacherStore.writing, Batches._tried = written, called


async def go(url: str, folder: Path, asks: int, most: int) -> None:
    """Prepare, submit, wait."""
    with TeacherStore(folder / "teacher.sqlite") as store:
        async with Endpoint(url) as endpoint:
            prepare([an_ask(i) for i in range(asks)], 2, store, endpoint, most_requests=most)
            batches = Batches(store, endpoint, "someone", folder, Limits(first_wait=0.01))
            await batches.submit()
            await batches.wait(0.01)


def main(url: str, folder: str, asks: str, most: str) -> None:
    """Die at step 1, at step 2, and so on, each time with a store of its own, until a run gets through."""
    for step in itertools.count(1):
        place = Path(folder) / str(step)
        place.mkdir()
        child = os.fork()
        if not child:
            die_at(step)
            try:
                asyncio.run(go(url, place, int(asks), int(most)))
            finally:
                os._exit(0)
        if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            break
        asyncio.run(go(url, place, int(asks), int(most)))
    print(step)


if __name__ == "__main__":
    main(*sys.argv[1:])
