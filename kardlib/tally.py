"""Where the numbers of a notebook come from: loaded as shipped, made just now, or made here before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from .plain_text import columns
from .presets import Settings
from .shipped import USUAL, Header
from .stored import KEY

Source = Literal["loaded", "made just now", "made here before"]


@dataclass(frozen=True)
class Origin:
    """Where one set of outputs comes from.

    Attributes:
        what: method and the settings that are not the preset's, or ``rankings``.
        commit: whose code made a loaded set; None for one that was made here.
        older: a loaded set was made by other code than is here now.
    """

    dataset: str
    student: str
    what: str
    seed: int
    source: Source
    commit: str | None = None
    older: bool = False

    def __str__(self) -> str:
        if self.commit is None:
            return self.source
        return f"loaded: made by commit {self.commit[:10]}{', other code than here' if self.older else ''}"


@dataclass
class Tally:
    """The sets of outputs that were asked for, each once; one tally may serve several experiments.

    Attributes:
        since: what was made after it counts as made just now, in seconds of the clock that files are stamped with; by
            default the start of this process.
    """

    since: float = field(default_factory=lambda: psutil.Process().create_time())
    origins: dict[str, Origin] = field(default_factory=dict)

    def load(self, settings: Settings, file: Path, header: Header, code: str) -> None:
        """Count a shipped set.

        Args:
            code: name that its artefact would have under the code that is here now.
        """
        source: Source = "loaded"
        about = (settings, header.key, source, header.commit, header.code != code)
        self.origins[file.name] = _origin(*about)

    def make(self, settings: Settings, folder: Path, key: dict) -> None:
        """Count the artefact in a folder."""
        just_now = (folder / KEY).stat().st_mtime >= self.since
        source: Source = "made just now" if just_now else "made here before"
        self.origins.setdefault(folder.name, _origin(settings, key, source))

    def count(self, source: Source) -> int:
        """How many sets come from there."""
        return sum(origin.source == source for origin in self.origins.values())

    @property
    def commits(self) -> list[str]:
        """Commits that made what was loaded, each once."""
        return sorted({origin.commit for origin in self.origins.values() if origin.commit})

    def __str__(self) -> str:
        """One line: how many sets there are from where."""
        by = f" (by commit {', '.join(commit[:10] for commit in self.commits)}{self._older()})" if self.commits else ""
        loaded, now, before = map(self.count, ("loaded", "made just now", "made here before"))
        return (
            f"{len(self.origins)} sets of outputs: {loaded} loaded{by}, {now} made just now, {before} made here before"
        )

    def _older(self) -> str:
        older = sum(origin.older for origin in self.origins.values())
        return f"; {older} of them by other code than is here" if older else ""

    def notes(self) -> list[str]:
        """What a record must say: nothing where nothing was loaded. It does not change when the notebook runs again."""
        if not self.commits:
            return []
        count, commits = self.count("loaded"), ", ".join(commit[:10] for commit in self.commits)
        return [
            f"{count} of {len(self.origins)} sets of outputs were loaded as shipped (commit {commits}{self._older()})"
        ]

    def lines(self) -> list[str]:
        """A table: each method with its seeds, and where its outputs come from."""
        groups: dict[tuple[str, ...], list[int]] = {}
        for one in self.origins.values():
            groups.setdefault((one.dataset, one.student, one.what, str(one)), []).append(one.seed)
        head = ("data set", "student", "outputs", "from", "seeds")
        return columns([head, *((*about, _seeds(seeds)) for about, seeds in groups.items())])


def _origin(settings: Settings, key: dict, source: Source, commit: str | None = None, older: bool = False) -> Origin:
    changed = "".join(f", {n} = {v}" for n, v in settings.changed().items() if n not in ("student", "encoder"))
    changed += "".join(f", {key[n]}" for n, usual in USUAL.items() if key.get(n, usual) != usual)
    what, student = key.get("method"), Path(settings.student).name
    about = (f"{what}{changed}", student) if what else (f"{key['step']}{changed}", "-")
    return Origin(settings.dataset, about[1], about[0], key["seed"], source, commit, older)


def _seeds(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))
