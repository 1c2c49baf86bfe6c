"""What every notebook does first: resolve its parameters, open its run, set up the experiment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .experiment import Experiment
from .jobs import threads
from .notebook_studies import refuse_lacking
from .presets import Settings, resolve
from .runs import Run, open_run


def open_notebook(notebook: str, namespace: Mapping[str, Any], extra: Sequence[str] = ()) -> tuple[Run, Experiment]:
    """Open the run of a notebook.

    Args:
        notebook: name without ``.ipynb``.
        namespace: the notebook's ``globals()``; the parameters are taken from it by name.
        extra: names of the notebook's own parameters, those that are no field of ``Settings``.

    Returns:
        The run, whose ``finish`` writes ``record.json``, and the experiment.

    Raises:
        KardError: a parameter's value is wrong, or the notebook's tables have no cells under the settings.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    parameters = {name: namespace[name] for name in Settings.model_fields if name in namespace and name != "preset"}
    settings = resolve(namespace["preset"], **parameters)
    refuse_lacking(notebook, settings)
    run = open_run(notebook, settings, extra={name: namespace[name] for name in extra})
    _prepare(settings)
    return run, Experiment(settings)


def _prepare(settings: Settings) -> None:
    """As many threads as the jobs have, as numbers do not depend on where they come from; and no bars of transformers.

    Importing both takes seconds and what ships is read without them: there they are told by what they read on import.
    """
    if settings.preset == "mini" and not settings.retrain and not {"torch", "transformers"} & set(sys.modules):
        count = str(threads(settings))
        os.environ |= {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
        os.environ |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
        return
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    if not torch.cuda.is_available():
        torch.set_num_threads(threads(settings))
