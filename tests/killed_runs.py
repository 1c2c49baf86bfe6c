"""Starts a run again and again and kills each one (SIGKILL) at a random moment; forks, so that a start costs nothing.

Arguments: address, store, number of asks, samples each, kills, shortest and longest life in seconds, seed.
Prints how many runs were alive when they were killed.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from teacher_asks import an_ask

from kardlib.teacher_client import Endpoint
from kardlib.teacher_limits import Limits
from kardlib.teacher_run import collect_now
from kardlib.teacher_store import TeacherStore

LIMITS = Limits(concurrency=8, first_wait=0.01, longest_wait=0.05, tries=50)


def run(url: str, path: Path, asks: int, count: int) -> None:
    """One run to the end."""
    with TeacherStore(path) as store:
        collect_now([an_ask(i) for i in range(asks)], count, store, Endpoint(url), LIMITS, progress=False)


def main() -> None:
    """Kill so many runs, then let one finish."""
    url, path, asks, count, kills = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:6])
    shortest, longest = map(float, sys.argv[6:8])
    draw = random.Random(sys.argv[8])
    killed = 0
    for _ in range(kills):
        child = os.fork()
        if not child:
            try:
                run(url, path, asks, count)
            finally:
                os._exit(0)
        time.sleep(draw.uniform(shortest, longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
    run(url, path, asks, count)
    print(killed)


if __name__ == "__main__":
    main()
