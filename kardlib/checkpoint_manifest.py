"""What a folder of ``kard export`` says about itself: all that answering with it needs, beside the models themselves.

The folder holds ``student`` and, as its method wants them, ``reranker``, and ``passages`` with ``index``, laid out as
``kard index build`` does; where the index stays at its place, ``index.path`` names that place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from .errors import KardError
from .methods import Method, method
from .prompts import build_prompt
from .records import Question, Record
from .store import atomic_write

MANIFEST, STUDENT, RERANKER, INDEX_PATH = "manifest.json", "student", "reranker", "index.path"
FORMAT = 1
_EXAMPLE = Question(id="example", stem="Which one is meant?", options=("the first", "the other"))
_PASSAGES = ("A passage.", "Another passage.")


class CheckpointManifest(Record):
    """What is known about an exported student.

    Attributes:
        kit: version of the kit that wrote it.
        made: date and time, UTC.
        method: row of the main table: what the student is asked for, and what finds its passages.
        dataset: that it was trained on; ``options`` are those that every question of it has (yes and no), empty where
            each has its own.
        student, encoder: base models, folders by their last name; ``encoder`` is empty where there is no reranker.
        k, kappa_star: passages that the student reads and candidates of the reranker; 0 where there are none.
        answers: ``scored``, the option that is likeliest after the student's own rationale, or ``free``, the one that
            its text names; see :class:`kardlib.presets.Settings`.
        prompt: what the prompt builder makes of a fixed question; it must come to the same wherever it is asked.
        index, index_key: name and key of an index that stays where it is; empty where the folder has its own.
        artefacts: names of the artefacts that it was copied from, by step.
        notes: lines that go with every number and answer of it.
    """

    format: Literal[1] = FORMAT
    kit: str
    made: str
    method: str
    preset: str
    dataset: str
    options: tuple[str, ...] = ()
    student: str
    encoder: str = ""
    reranker_form: Literal["late-interaction", "cross-encoder", ""] = ""
    seed: int
    k: int
    kappa_star: int
    source_tokens: int
    target_tokens: int
    decoding: Literal["greedy"] = "greedy"
    answers: Literal["scored", "free"]
    prompt: str
    index: str = ""
    index_key: str = ""
    artefacts: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def row(self) -> Method:
        """The method as the table of methods has it."""
        return method(self.method)


def example_prompt(row: Method) -> str:
    """What a student of a method is asked, for one fixed question."""
    return build_prompt(_EXAMPLE, () if row.test_query == "none" else _PASSAGES, row.cue)


def write_manifest(folder: Path, manifest: CheckpointManifest) -> None:
    """Write ``manifest.json``, whole or not at all."""
    with atomic_write(folder / MANIFEST) as file:
        file.write(manifest.model_dump_json(indent=1) + "\n")


def read_manifest(folder: Path) -> CheckpointManifest:
    """The manifest of an exported folder.

    Raises:
        KardError: there is none, it is not one that this version writes, or its prompts are no longer built alike.
    """
    path = folder / MANIFEST
    try:
        manifest = CheckpointManifest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise KardError(f"{folder}: it has no {MANIFEST}; kard export makes such a folder") from None
    except OSError as error:
        raise KardError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValidationError as error:
        first: Any = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise KardError(f"{path}: {f'field {field}: ' if field else ''}{first['msg']}") from None
    if manifest.prompt != example_prompt(manifest.row):
        raise KardError(f"{folder}: this kit's prompts are not those its student learned; use version {manifest.kit}")
    return manifest
