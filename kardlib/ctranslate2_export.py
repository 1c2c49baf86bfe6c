"""A T5 student in CTranslate2's format, made once for each checkpoint and version of the library."""

from __future__ import annotations

from importlib import metadata, util
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from .errors import KardError
from .keys import model_hash
from .models import load_config, load_student, load_tokenizer, locate
from .presets import runs_root
from .sources import code
from .store import artefact

PACKAGE = "ctranslate2"


def require_package() -> None:
    """Raises a KardError where CTranslate2 is not installed."""
    if util.find_spec(PACKAGE) is None:
        raise KardError(f"engine {PACKAGE}: the package is not installed; pip install {PACKAGE}")


def exported(folder: str, root: Path | None = None) -> Path:
    """Folder of a student in CTranslate2's format, float32.

    Args:
        folder: name or folder of the student.
        root: of the artefacts; there the export lies beside the trained checkpoints, under a key of its own.

    Raises:
        KardError: the package has no conversion for the model.
    """
    key = {"step": PACKAGE, "checkpoint": _content(folder), "version": metadata.version(PACKAGE)}
    key["code"] = code(("ctranslate2_export",))
    return (
        artefact(root or runs_root() / "artefacts", PACKAGE, key, lambda made: _convert(folder, made / "model"))
        / "model"
    )


def _content(folder: str) -> list[str]:
    """What stands for a checkpoint: the bytes of a folder, the commit of a model of the hub."""
    path = Path(locate(folder))
    if path.is_dir():
        return [path.name, model_hash(path)]
    load_config(folder)  # fetched, where it has not been yet
    cached = try_to_load_from_cache(folder, "config.json")  # in a folder that is named by the commit
    return [folder, Path(cached).parent.name if isinstance(cached, str) else "unknown"]


def _convert(folder: str, out: Path) -> None:
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):
        """Converts what the kit has loaded: safetensors alone, in float32."""

        def load_model(self, *args: Any, **options: Any) -> Any:
            model = load_student(folder).cpu()
            # T5 1.1 and Flan-T5 do not scale what goes into the output layer. The converter looks at the ties for that,
            # and recent transformers tell it elsewhere
            config = model.config
            config.tie_word_embeddings = getattr(config, "scale_decoder_outputs", config.tie_word_embeddings)
            return model

        def load_tokenizer(self, *args: Any, **options: Any) -> Any:
            return load_tokenizer(folder)

    try:
        Converter(locate(folder)).convert(str(out), force=True)
    except (ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise KardError(f"model {folder}: ctranslate2 cannot convert it ({reason})") from None
