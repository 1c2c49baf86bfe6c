"""Puts completions on the disk from within an event loop: what arrives while one commit runs goes into the next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from .teacher_records import Ask, Sample
from .teacher_store import TeacherStore

Pairs = Sequence[tuple[Ask, Sample]]


class Writer:
    """One thread that writes; used as ``async with Writer(store)``. At the end all that was handed over is written."""

    def __init__(self, store: TeacherStore) -> None:
        self._store = store
        self._waiting: list[tuple[Pairs, asyncio.Future[list[Sample]]]] = []
        self._faults: list[tuple[str, float]] = []
        self._something = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="teacher-store")

    async def __aenter__(self) -> Writer:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._closing = True
        self._something.set()
        try:
            await self._task
        finally:
            self._thread.shutdown()

    async def put(self, pairs: Pairs) -> list[Sample]:
        """Return when these are on the disk.

        Raises:
            KardError: they could not be written.
        """
        done: asyncio.Future[list[Sample]] = asyncio.get_running_loop().create_future()
        self._waiting.append((pairs, done))
        self._something.set()
        return await asyncio.shield(done)

    def fault(self, kind: str, time: float) -> None:
        """Count a fault; it is written with the next completions, at the latest at the end."""
        self._faults.append((kind, time))
        self._something.set()

    async def _run(self) -> None:
        while not self._closing or self._waiting or self._faults:
            if not self._waiting and not self._faults:
                self._something.clear()
                await self._something.wait()
                continue
            waiting, self._waiting = self._waiting, []
            faults, self._faults = self._faults, []
            pairs = [pair for some, _ in waiting for pair in some]
            loop = asyncio.get_running_loop()
            try:
                kept = await loop.run_in_executor(self._thread, self._store.put_many, pairs, faults)
            except Exception as error:
                self._fail(waiting, error)
                continue
            for some, done in waiting:
                done.set_result(kept[: len(some)])
                del kept[: len(some)]

    def _fail(self, waiting: list[tuple[Pairs, asyncio.Future[list[Sample]]]], error: Exception) -> None:
        """Each of those who wait is told; faults alone are not worth ending a run for."""
        for _, done in waiting:
            done.set_exception(error)
            done.exception()  # marked as seen: whoever waited may be gone
