"""Optimizers without torch's compiler: the same steps, and nothing of it imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from clx.runtime.optimizer import without_compiler


def weights(kind: type[torch.optim.Optimizer], **keys: float) -> list[float]:
    """Five steps on the mean square of 2 w - 1, a scheduler, a stored and loaded state on the way."""
    parameter = torch.nn.Parameter(torch.linspace(-1, 1, 4))
    optimizer = kind([parameter], **keys)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    for step in range(5):
        optimizer.zero_grad()
        (2 * parameter - 1).square().mean().backward()
        optimizer.step()
        scheduler.step()
        if step == 2:
            optimizer.load_state_dict(optimizer.state_dict())
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    return parameter.tolist()


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        (torch.optim.Adam, {"lr": 0.1}),
        (torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.1}),
    ],
)
def test_the_same_steps_bit_for_bit(kind: type[torch.optim.Optimizer], keys: dict[str, float]) -> None:
    light = without_compiler(kind)
    assert light is not kind
    assert issubclass(light, kind)
    assert light.__name__ == kind.__name__
    assert weights(light, **keys) == weights(kind, **keys)


def test_what_is_not_torchs_stays_as_it_is() -> None:
    class Own(torch.optim.SGD):
        pass

    assert without_compiler(Own) is Own
    assert without_compiler(print) is print


def test_a_run_imports_no_compiler(tmp_path: Path) -> None:
    code = (
        "import sys; from clx.cli import main; "
        "main(['trainer.epochs=1', 'logger=none', 'output_root=o']); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "False"
