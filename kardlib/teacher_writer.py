"""Puts completions on the disk from within an event loop: what arrives while one commit runs goes into the next."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .teacher_records import Ask, Sample
from .teacher_store import TeacherStore

Pairs = Sequence[tuple[Ask, Sample]]
Kept = asyncio.Future[list[Sample]]
GATHER_SECONDS = 0.01
"""How long a commit waits for company: a commit costs the same for one completion as for twenty."""


@dataclass(frozen=True)
class _Entry:
    pairs: Pairs = ()
    done: Kept | None = None
    fault: tuple[str, float] | None = None


class Writer:
    """One thread that writes; used as ``async with Writer(store)``. At the end all that was handed over is written.

    The thread takes its work from a queue of its own: a task of the event loop would wait for its turn behind every
    answer that has come in meanwhile, and those behind it would not be on the disk for that long.
    """

    def __init__(self, store: TeacherStore) -> None:
        self._store = store
        self._entries: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="teacher-store", daemon=True)

    async def __aenter__(self) -> Writer:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._entries.put(None)
        self._thread.join()  # one commit at most

    async def put(self, pairs: Pairs) -> list[Sample]:
        """Return when these are on the disk. They get there even if the caller is cancelled.

        Raises:
            KardError: they could not be written.
        """
        done: Kept = self._loop.create_future()
        self._entries.put(_Entry(pairs, done))
        return await asyncio.shield(done)

    def fault(self, kind: str, at: float) -> None:
        """Count a fault; nobody waits for it."""
        self._entries.put(_Entry(fault=(kind, at)))

    def _run(self) -> None:
        going, busy = True, False
        while going:
            entries = list(self._waiting(busy))
            going = None not in entries
            busy = len(entries) > 1
            self._write([entry for entry in entries if entry is not None])

    def _waiting(self, busy: bool) -> Iterator[_Entry | None]:
        """All that waits, one entry at least; more of them where they come one upon another."""
        yield self._entries.get()
        if busy:
            time.sleep(GATHER_SECONDS)
        while True:
            try:
                yield self._entries.get_nowait()
            except queue.Empty:
                return

    def _write(self, entries: list[_Entry]) -> None:
        if not entries:
            return
        error = None
        kept: list[Sample] = []
        try:
            pairs = [pair for entry in entries for pair in entry.pairs]
            kept = self._store.put_many(pairs, [entry.fault for entry in entries if entry.fault])
        except Exception as problem:  # each of those who wait is told; faults alone are not worth ending a run for
            error = problem
        for entry in entries:
            if entry.done is not None:
                mine, kept = kept[: len(entry.pairs)], kept[len(entry.pairs) :]
                self._loop.call_soon_threadsafe(_settle, entry.done, mine, error)


def _settle(done: Kept, kept: list[Sample], error: Exception | None) -> None:
    if error is None:
        done.set_result(kept)
    else:
        done.set_exception(error)
        done.exception()  # marked as seen: whoever waited may be gone
