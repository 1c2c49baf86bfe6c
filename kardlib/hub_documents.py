"""Documents of a data set on the hub, streamed: ``wikimedia/wikipedia`` and whatever has the same columns."""

from __future__ import annotations

from collections.abc import Iterator

from .documents import FIELDS, Document, Fields
from .errors import KardError

LICENCES = {"wikimedia/wikipedia": "CC BY-SA 3.0 and GFDL"}
"""As the publishers state them."""


def hub_revision(name: str) -> str:
    """The commit that a data set on the hub stands at, so that the manifest can name it.

    Raises:
        KardError: the hub cannot be reached, or knows no such data set.
    """
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(name).sha)
    except Exception as error:  # noqa: BLE001  (the hub's client has no common base for "offline" and "not found")
        raise KardError(_told(name, error)) from None


def hub_documents(name: str, config: str, revision: str, fields: Fields = FIELDS) -> Iterator[Document]:
    """The documents of the split ``train``, one at a time; nothing is kept on disk.

    Args:
        config: which of its parts, ``20231101.en`` for English Wikipedia; empty where there is one only.

    Raises:
        KardError: it cannot be fetched, or a row is not as it should be.
    """
    number = 0
    try:
        from datasets import load_dataset

        for row in load_dataset(name, config or None, split="train", streaming=True, revision=revision):
            number += 1
            yield fields.document(row, f"{name}: row {number}")
    except KardError:
        raise
    except Exception as error:  # noqa: BLE001
        raise KardError(_told(name, error, number)) from None


def _told(name: str, error: Exception, number: int = 0) -> str:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    behind = f" beyond row {number}" if number else ""
    return f"{name}: it cannot be fetched{behind}; a folder with its Parquet files can be read instead ({reason})"
