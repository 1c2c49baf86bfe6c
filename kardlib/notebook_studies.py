"""Which tables a notebook makes, and whether the settings leave it any."""

from __future__ import annotations

from .endpoint_teacher import is_endpoint
from .errors import KardError
from .presets import Settings
from .readers import has_files
from .studies import Cell, cells_of, study
from .teacher_entries import tells

TABLES_OF = {
    "07": ("3", "filter"),
    "08": ("4", "5"),
    "09": ("Fig 4a", "1", "Fig 4b"),
    "10": ("Fig 3",),
    "11": ("7",),
    "13": ("as released",),
}
"""By the notebook's number; the others make the tables of whatever set they are given."""
RATIONALES = "rationales"
_ABOUT_THEM = ("02", "03", "04", "05", "12")
"""Notebooks that are about rationales, and what is found or learned with them."""


def cells_at_hand(table: str, settings: Settings) -> list[Cell]:
    """The cells of a table whose data sets' files are there."""
    return [cell for cell in cells_of(table, settings) if has_files(cell.settings)]


def lacking(notebook: str, settings: Settings) -> list[str]:
    """Tables of a notebook of which a column or row has no cell, for want of a player, a rationale or a file; or
    ``RATIONALES`` where it needs some and the data set has none."""
    if notebook.split("_")[0] in _ABOUT_THEM and not tells(settings.teacher, settings.dataset):
        return [RATIONALES]
    return [table for table in TABLES_OF.get(notebook.split("_")[0], ()) if not _whole(table, settings)]


def about(notebook: str, settings: Settings) -> bool:
    """Whether a notebook makes anything of the data set that the settings name; some tables are of others alone."""
    tables = TABLES_OF.get(notebook.split("_")[0], ())
    cells = (cell for table in tables for cell in cells_at_hand(table, settings))
    return not tables or any(cell.settings.dataset == settings.dataset for cell in cells)


def unasked(notebook: str, settings: Settings) -> str:
    """What a teacher behind an endpoint is still to be asked for a notebook's tables that take more rationales a
    question than the settings do (Table 3); "" where nothing."""
    tables = TABLES_OF.get(notebook.split("_")[0], ()) if is_endpoint(settings.teacher) else ()
    cells = [c for table in tables for c in cells_at_hand(table, settings) if c.settings.dataset == settings.dataset]
    most = max(cells, key=lambda cell: cell.settings.l, default=None)
    if most is None or most.settings.l <= settings.l:
        return ""
    from .experiment import Experiment

    try:
        Experiment(most.settings).rationales()
    except KardError as error:
        return f"l = {most.settings.l}: {error}"
    return ""


def _whole(table: str, settings: Settings) -> bool:
    cells = cells_at_hand(table, settings)
    return all(any(cell.row.endswith(words) for cell in cells) for words in study(table).changes)


def refuse_lacking(notebook: str, settings: Settings) -> None:
    """Stop before anything is made where a table of the notebook cannot be.

    Raises:
        KardError: one line that names the tables.
    """
    tables = lacking(notebook, settings)
    if tables == [RATIONALES]:
        raise KardError(
            f"{notebook}: it needs rationales, and {settings.dataset} brings none; -p teacher= names who writes some. "
            "Notebook 06 has the rows that need none"
        )
    if tables:
        raise KardError(
            f"{notebook}: no cells for {', '.join(map(_named, tables))} under preset {settings.preset} with teacher "
            f"{settings.teacher}: it has no model or rationales for them, or their data set's files are not there"
        )


def _named(table: str) -> str:
    return f"Table {table}" if table[0].isdigit() else table
