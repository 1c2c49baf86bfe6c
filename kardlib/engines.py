"""Which program writes a student's texts: transformers, or one that is faster where it can be had."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .generate import Generator

Engine = Literal["transformers", "ctranslate2", "vllm"]
"""``ctranslate2``: T5 students, where its greedy texts are those of transformers. ``vllm``: causal students that a
server of the user's holds, whose texts may differ with its precision."""


def generator_of(
    engine: Engine, folder: str, source_tokens: int, target_tokens: int, root: Path | None = None
) -> Generator:
    """A student ready to write, by one of the engines.

    Args:
        folder: name or folder of the student.
        source_tokens, target_tokens: limits for prompts and for what is written.
        root: of the artefacts, for what an engine keeps.

    Raises:
        KardError: the engine is not there, or is not for such a student.
    """
    if engine == "ctranslate2":
        from .ctranslate2_engine import CTranslate2Generator

        return CTranslate2Generator(folder, source_tokens, target_tokens, root=root)
    if engine == "vllm":
        from .vllm_engine import ServedGenerator

        return ServedGenerator(folder, source_tokens, target_tokens)
    return Generator(folder, source_tokens, target_tokens)
