"""A strict papermill: parameters are refused before a kernel starts, a finished run is not repeated."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import KardError
from .notebook_params import Plan, read_cells, source, tags
from .presets import REPOSITORY, Settings
from .runs import LATEST, RECORD, input_hashes, mark_latest, public_parameters, read_record, run_folder

_QUIET_SECONDS = 20.0


class NotebookFailure(KardError):
    """A cell failed, or the kernel died: exit code 1, where bad input is 2."""

    exit_code = 1


@dataclass(frozen=True)
class Outcome:
    """A finished run. ``seconds`` is the wall time of this call; ``cached`` tells whether it was there already."""

    plan: Plan
    folder: Path
    seconds: float
    cached: bool

    @property
    def executed(self) -> Path:
        """The executed notebook."""
        return self.folder / f"{self.plan.notebook}.ipynb"


def run_notebook(plan: Plan, again: bool = False, say: Callable[[str], None] = print) -> Outcome:
    """Run a notebook headless in this very interpreter's kernel, or find that it has run.

    Args:
        plan: checked by :func:`kardlib.notebook_params.plan_run`.
        again: run even if the run is finished (artefacts stay cached).
        say: where lines of progress go; what the notebook writes to stderr goes to stderr.

    Raises:
        NotebookFailure: a cell failed; the notebook up to there is kept as ``<notebook>.failed.ipynb``.
        KardError: the folder cannot be written, or the notebook left no record.
    """
    started = time.monotonic()
    folder = folder_of(plan)
    with _alone(folder, say):
        cached = is_finished(plan, folder) and not again
        if not cached:
            folder = _execute(plan, folder, say)
        mark_latest(folder)
    return Outcome(plan, folder, time.monotonic() - started, cached)


def folder_of(plan: Plan) -> Path:
    """Where the run that is planned is, or would be."""
    return run_folder(plan.notebook, plan.settings, input_hashes(plan.settings, plan.notebook), plan.extra)


def is_finished(plan: Plan, folder: Path) -> bool:
    """Whether a readable record and an executed copy of the notebook as it is now lie in the folder."""
    executed = folder / f"{plan.notebook}.ipynb"
    if not (folder / RECORD).is_file() or not executed.is_file():
        return False
    try:
        read_record(folder / RECORD)
        return _code(executed) == _code(plan.path)
    except KardError:
        return False


def _code(path: Path) -> list[str]:
    skipped = ("injected-parameters", "papermill-error-cell-tag")
    return [source(cell).strip() for cell in read_cells(path) if not set(skipped) & set(tags(cell))]


@contextlib.contextmanager
def _alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the run's lock: of two processes that want the same run, the second waits and finds it made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f"{folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say("  another process is at this run; waiting for it")
            lock.acquire()
    except OSError as error:
        raise KardError(f"{folder}: cannot be written ({error.strerror or error})") from None
    try:
        yield
    finally:
        lock.release()


def _execute(plan: Plan, folder: Path, say: Callable[[str], None]) -> Path:
    """Run the notebook and return the folder of its record, which now holds the executed notebook too."""
    name = plan.notebook
    partial, failed = folder / f"{name}.partial.ipynb", folder / f"{name}.failed.ipynb"
    before = _stamp(folder.parent / LATEST)
    try:
        _papermill(plan, partial, say)
        folder = _recorded(plan, folder, before)
        _forget_paths(partial, plan)
        os.replace(partial, folder / f"{name}.ipynb")
        failed.unlink(missing_ok=True)
    except NotebookFailure as failure:
        if partial.exists():
            _forget_paths(partial, plan)
            os.replace(partial, failed)
        raise NotebookFailure(f"{failure} (kept: {failed})") from None
    except OSError as error:
        raise KardError(f"{folder}: cannot be written ({error.strerror or error})") from None
    return folder


def _recorded(plan: Plan, folder: Path, before: int) -> Path:
    """Where the notebook left its record: elsewhere than planned if the kit's sources were edited meanwhile."""
    latest = folder.parent / LATEST
    if (folder / RECORD).is_file():
        return folder
    if _stamp(latest) != before:
        other = folder.parent / latest.read_text(encoding="utf-8").strip()
        if read_record(other / RECORD).parameters == public_parameters(plan.settings, plan.extra):
            return other
    raise NotebookFailure(f"{plan.notebook}: it ended without a record in its run folder")


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


def _papermill(plan: Plan, out: Path, say: Callable[[str], None]) -> None:
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    # it parses comments with "=" wrongly and warns; ours have been checked
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            _no_fields(plan.path), _no_fields(out), parameters=plan.given, kernel_name="python3", language="python",
            progress_bar=False, stderr_file=TerminalStream(), cwd=None, start_timeout=120,
            kernel_manager_class=kernel_manager(plan.settings), on_cell_start=_headings(plan, say),
        )  # fmt: skip
    except PapermillExecutionError as error:
        told = error.evalue if error.ename == "KardError" else f"{error.ename}: {error.evalue}"
        first = (told.strip().splitlines() or [error.ename])[0]
        raise NotebookFailure(f"{plan.notebook}, cell [{error.exec_count}]: {first}") from None
    except (DeadKernelError, RuntimeError) as error:
        raise NotebookFailure(f"{plan.notebook}: the kernel died ({str(error).splitlines()[0]})") from None


def kernel_manager(settings: Settings | None = None) -> type:
    """A kernel manager class that starts this very interpreter, whatever kernels are registered on the machine."""
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import default

    class ThisInterpreter(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            spec = get_kernel_dict()
            # what a cell raises comes by message; the kernel's own log is noise about sockets
            spec["argv"] = [*spec["argv"], "--log-level=50"]
            return KernelSpec(**{**spec, "env": kernel_env(settings)})

    class Manager(AsyncKernelManager):
        @default("kernel_spec_manager")
        def _kernel_spec_manager_default(self) -> KernelSpecManager:
            return ThisInterpreter(parent=self)

    return Manager


def kernel_env(settings: Settings | None = None) -> dict[str, str]:
    """Environment that a kernel gets on top of this process's own."""
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    env = {
        "PYTHONPATH": path,  # the kernel imports the kardlib that this process runs
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "TQDM_MININTERVAL": os.environ.get("TQDM_MININTERVAL", "5"),  # all that a bar shows stays in the notebook
    }
    if settings is not None and settings.preset == "mini":
        env["HF_HUB_OFFLINE"] = "1"
    return env


def _headings(plan: Plan, say: Callable[[str], None]) -> Callable[..., None]:
    """A hook that says which part of the notebook is being run."""
    total = max(1, len(read_cells(plan.path)))

    def on_cell_start(cell: Any, cell_index: int) -> None:
        lines = cell.source.strip().splitlines() if cell.cell_type == "markdown" else []
        if lines and lines[0].startswith("#"):
            say(f"  {plan.notebook} {min(100, 100 * cell_index // total):3d} %  {lines[0].lstrip('# ')}")

    return on_cell_start


class TerminalStream:
    """Passes a notebook's stderr on. Where it does not go to a terminal, a progress bar becomes a line now and then."""

    def __init__(self) -> None:
        self._last = 0.0

    def write(self, text: str) -> None:
        """Write what a cell wrote."""
        if sys.stderr.isatty():
            sys.stderr.write(text)
            return
        for line in text.split("\n"):
            shown = line.rstrip("\r").rpartition("\r")[2].strip()
            bar = "\r" in line or "%|" in line
            if shown and (not bar or time.monotonic() - self._last > _QUIET_SECONDS):
                self._last = time.monotonic() if bar else self._last
                sys.stderr.write(f"  {shown}\n")

    def flush(self) -> None:
        """Flush the stream below."""
        sys.stderr.flush()


def _no_fields(path: Path) -> str:
    """Papermill fills in ``{...}`` of a path; these paths are meant as they stand."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _forget_paths(path: Path, plan: Plan) -> None:
    """Papermill writes absolute paths into the notebook; an executed notebook may be passed on."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    about = notebook.metadata.get("papermill", {})
    about["input_path"] = about["output_path"] = f"{plan.notebook}.ipynb"
    for value in plan.given.values():
        if isinstance(value, str) and Path(value).expanduser().is_absolute():
            name = Path(value).name
            about["parameters"] = {n: name if v == value else v for n, v in about.get("parameters", {}).items()}
            for cell in notebook.cells:
                if "injected-parameters" in cell.metadata.get("tags", []):
                    cell.source = cell.source.replace(value, name)
    nbformat.write(notebook, path)
