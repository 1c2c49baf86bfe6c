"""How far a running step is. What trains, ranks or writes tells it here; whoever waits for it shows it in a bar."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from tqdm import tqdm

Listener = Callable[[int, int, str], None]
"""Takes what is done, of how much, and a note, such as the loss."""
SECONDS = 1.0
_listeners: list[Listener] = []


def tell(done: int, total: int, note: str = "") -> None:
    """Say how far the step is; without a listener nothing happens.

    Args:
        done, total: in the step's own unit: training steps, questions, prompts.
    """
    if _listeners:
        _listeners[-1](done, total, note)


@contextlib.contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """What steps tell within goes to the listener, once in ``SECONDS`` at most."""
    last = time.monotonic()

    def now_and_then(done: int, total: int, note: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS:
            last = time.monotonic()
            listener(done, total, note)

    _listeners.append(now_and_then)
    try:
        yield
    finally:
        _listeners.pop()


class StepsBar:
    """A bar over several steps, in which those that run count by the share of them that is done.

    Args:
        bar: over as many as there are steps.
        names: of the steps, in their order.
    """

    def __init__(self, bar: tqdm, names: Sequence[str]) -> None:
        self._bar, self._names, self._finished = bar, names, 0
        self._shown = float("-inf")
        self._running: dict[int, tuple[float, str]] = {}

    def hear(self, place: int, done: int, total: int, note: str = "") -> None:
        """The step at a place has come so far."""
        text = f"{self._names[place]}: {done:,} of {total:,}{f', {note}' if note else ''}"
        self._running[place] = done / max(1, total), text
        self._show()

    def finish(self, place: int) -> None:
        """The step at a place is done."""
        self._running.pop(place, None)
        self._finished += 1
        self._show(self._names[place])

    def _show(self, finished: str = "") -> None:
        shares = sum(share for share, _ in self._running.values())
        done = round(self._finished + shares, 2)
        self._bar.n = int(done) if done == int(done) else done
        self._bar.set_postfix_str("; ".join(text for _, text in self._running.values()) or finished, refresh=False)
        if time.monotonic() - self._shown >= self._bar.mininterval or self._finished == self._bar.total:
            self._shown = time.monotonic()
            self._bar.refresh()
