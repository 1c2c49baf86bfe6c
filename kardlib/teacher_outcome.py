"""How a run of requests ended, or is asked to end."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from .errors import KardError


@dataclass
class Report:
    """What a run did.

    Attributes:
        requests: sent, those that failed included.
        stored: good completions.
        not_good: other completions, by finish reason; they are in the store as well.
        faults: by kind; none of them brought a completion.
        left: samples that are still missing; None where the asks cannot be gone through twice.
    """

    requests: int = 0
    stored: int = 0
    not_good: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    left: int | None = None

    def __str__(self) -> str:
        left = "" if self.left is None else f", {self.left:,} left"
        return f"{self.stored:,} samples stored{left}"


class Stopped(KardError):
    """A run ended before everything was there. What had arrived is stored.

    Attributes:
        report: what was done up to then.
    """

    def __init__(self, reason: str, report: Report, exit_code: int = 2) -> None:
        super().__init__(f"{reason} ({report}; the same command goes on from there)")
        self.report = report
        self.exit_code = exit_code


class Stop:
    """Asks a run to end: nothing new is asked for, answers under way are waited for and stored."""

    def __init__(self) -> None:
        self.reason: KardError | None = None
        self.exit_code = 2
        self.event = asyncio.Event()

    def set(self, reason: KardError, exit_code: int = 2) -> None:
        """End the run for the first reason that is given."""
        if self.reason is None:
            self.reason, self.exit_code = reason, exit_code
            self.event.set()
