"""Best-on-dev: a student's loss on dev questions after each epoch, and the weights of the epoch where it is lowest.

The paper keeps the last epoch, which is the default. What is chosen here is chosen on dev questions, never on test.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback

from .processes import added, rank, world
from .store import write_json
from .student_parts import PartsTrainer, Rows

FOLDER = "best"


class DevLoss(TrainerCallback):
    """Measures at the end of each epoch; rows ``step`` and ``dev_loss`` (nats a target token) go to the log history.

    Args:
        rows: encoded dev pairs.
        ends: the steps after which an epoch is over.
    """

    def __init__(self, rows: Rows, ends: set[int]) -> None:
        self.rows, self.ends = sorted(rows, key=lambda row: len(row["input_ids"])), ends
        self.trainer: PartsTrainer | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step not in self.ends or self.trainer is None:
            return
        loss = self.measured(self.trainer)
        state.log_history.append({"step": state.global_step, "dev_loss": loss})
        if rank() == 0:
            keep_if_best(self.trainer.model, state.global_step, loss, Path(args.output_dir) / FOLDER)

    @torch.no_grad()
    def measured(self, trainer: PartsTrainer) -> float:
        """Mean negative log-likelihood per target token of all dev rows."""
        model, mine, total = trainer.model.eval(), self.rows[rank() :: world()], 0.0
        for start in range(0, len(mine), trainer.part):
            total += float(trainer.summed_loss(model, mine[start : start + trainer.part]))
        model.train()
        return added(total) / trainer.predicted(self.rows)


def keep_if_best(model: nn.Module, step: int, loss: float, folder: Path) -> None:
    """Save the trained weights where no epoch before had a lower loss."""
    if loss < best_so_far(folder)[1]:
        folder.mkdir(parents=True, exist_ok=True)
        trained = {name: weight.detach().contiguous() for name, weight in _trained(model).items()}
        save_file(trained, folder / f"{step}.safetensors")
        write_json(folder / "best.json", [step, loss])
        for old in folder.glob("*.safetensors"):
            if old.stem != str(step):
                old.unlink()


def best_so_far(folder: Path) -> tuple[int, float]:
    """Step and loss of the best epoch; step 0 and infinity where none was measured."""
    try:
        step, loss = json.loads((folder / "best.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0, float("inf")
    return step, loss


def take_best(model: nn.Module, folder: Path) -> None:
    """Put the weights of the best epoch into the model."""
    step, _ = best_so_far(folder)
    kept = load_file(folder / f"{step}.safetensors")
    with torch.no_grad():
        for name, weight in _trained(model).items():
            weight.copy_(kept[name])


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
