"""How many questions the paper's data sets have, and whether the files at hand are whole."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import KardError

PUBLISHED: dict[str, dict[str, int]] = {
    "medqa": {"train": 10_178, "dev": 1_272, "test": 1_273},
    "strategyqa": {"labelled": 2_290},
    "openbookqa": {"train": 4_957, "dev": 500, "test": 500},
}
"""Rows of the publishers' files (METHOD 3). StrategyQA's labelled questions are split 7:3 by the kit."""
STRATEGYQA_REPORTED = 687
"""Of 2,290; the other 1,603 are trained on, less the tenth that choices are made on."""


def count_faults(dataset: str, rows: Mapping[str, int]) -> list[str]:
    """What is not as published: ``train has 3,289 questions, not 10,178``.

    Args:
        rows: of each of the publisher's splits, before any is dropped; a split that is not at hand is left out.
    """
    faults = []
    for split, count in PUBLISHED.get(dataset, {}).items():
        if split not in rows:
            faults.append(f"{split} is not there, {count:,} questions")
        elif rows[split] != count:
            faults.append(f"{split} has {rows[split]:,} questions, not {count:,}")
    return faults


def checked_note(preset: str, dataset: str, rows: Mapping[str, int]) -> list[str]:
    """No note where the files are whole, else one that starts with ``partial``.

    Raises:
        KardError: they are not, and the preset is ``paper``.
    """
    faults = count_faults(dataset, rows)
    if faults and preset == "paper":
        raise KardError(
            f"dataset {dataset}: not the paper's: {'; '.join(faults)} (-p preset=laptop takes it as partial)"
        )
    return [f"partial: {'; '.join(faults)}"] if faults else []
