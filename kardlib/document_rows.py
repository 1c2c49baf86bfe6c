"""Rows of JSONL and Parquet files of any size, one at a time, each with the place where it stands."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from .errors import KardError
from .raw_rows import as_object

ROWS_AT_ONCE = 1000
Row = tuple[str, dict[str, Any]]
"""``file:line`` and the row that stands there."""


def json_lines(path: Path) -> Iterator[Row]:
    """Rows of a JSONL file, gzipped where its name ends in ``.gz``; blank lines are skipped.

    Raises:
        KardError: names the file and the line that cannot be read.
    """
    where = str(path)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                where = f"{path}:{number}"
                if line.strip():
                    yield where, as_object(json.loads(line), "row", where)
    except FileNotFoundError:
        raise KardError(f"{path}: no such file") from None
    except json.JSONDecodeError as error:
        raise KardError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise KardError(f"{where}: nested too deeply") from None
    except UnicodeDecodeError as error:
        raise KardError(f"{where}: not UTF-8 ({error.reason})") from None
    except ValueError as error:  # a number of thousands of digits
        raise KardError(f"{where}: not JSON that can be read ({str(error).splitlines()[0][:120]})") from None
    except (OSError, EOFError, zlib.error) as error:
        raise KardError(f"{where}: cannot be read on from here ({error})") from None


def parquet_rows(path: Path, fields: Collection[str]) -> Iterator[Row]:
    """Rows of a Parquet file; only those of its columns that are among ``fields`` are read.

    Raises:
        KardError: names the file, and the row before which it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name in fields]
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
    except FileNotFoundError:
        raise KardError(f"{path}: no such file") from None
    except (OSError, pa.ArrowException) as error:
        raise KardError(f"{path}: row {number + 1} cannot be read ({' '.join(str(error).split())[:200]})") from None
