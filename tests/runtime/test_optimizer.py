"""Optimizers fused and without torch's compiler: the same steps, and nothing of it imported."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from clx.runtime.optimizer import fast


def weights(kind: Any, *, view: bool = False, **keys: Any) -> torch.Tensor:
    """Five steps on the mean square of 2 w - 1, a scheduler, a stored and loaded state on the way. view: with gradients
    that lie in memory as their transpose."""
    parameter = torch.nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
    optimizer = kind([parameter], **keys)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    for step in range(5):
        optimizer.zero_grad()
        (2 * parameter - 1).square().mean().backward()
        if view:
            parameter.grad = parameter.grad.T.clone(memory_format=torch.contiguous_format).T
        optimizer.step()
        scheduler.step()
        if step == 2:
            optimizer.load_state_dict(optimizer.state_dict())
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    return parameter.detach()


MANY = [
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    (torch.optim.Adam, {"lr": 0.1}),
    (torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("kind", "keys"), [*MANY, (torch.optim.SGD, {"lr": 0.1}), (torch.optim.RMSprop, {"lr": 0.1})])
def test_the_same_steps_bit_for_bit(kind: type[torch.optim.Optimizer], keys: dict[str, Any]) -> None:
    light = fast(kind)
    assert light is not kind
    assert issubclass(light, kind)
    assert light.__name__ == kind.__name__
    given = {} if kind is torch.optim.RMSprop else {"fused": False}
    assert torch.equal(weights(light, **keys, **given), weights(kind, **keys, **given))


@pytest.mark.parametrize(("kind", "keys"), MANY)
@pytest.mark.parametrize("view", [False, True], ids=["", "view"])
def test_fused_up_to_rounding(kind: type[torch.optim.Optimizer], keys: dict[str, Any], *, view: bool) -> None:
    """Also where a gradient is a view that lies otherwise in memory; torch's own kernel is far off there."""
    assert fast(kind)([torch.nn.Parameter(torch.zeros(1))], **keys).defaults["fused"] is True
    expected = weights(kind, **keys, fused=False)
    torch.testing.assert_close(weights(fast(kind), view=view, **keys), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_of_a_parameter_whose_first_gradient_comes_later(*, nesterov: bool) -> None:
    """A head of another task, say: in the second step beside one that has momentum already."""
    ends = []
    for kind in (torch.optim.SGD, fast(torch.optim.SGD)):
        early, late = (torch.nn.Parameter(torch.linspace(-1, 1, 4)) for _ in range(2))
        optimizer = kind([early, late], lr=0.1, momentum=0.9, nesterov=nesterov)
        for step in range(4):
            early.grad = torch.full((4,), 1.0 + step)
            late.grad = None if step == 0 else torch.full((4,), 2.0 - step)
            optimizer.step()
        ends.append(torch.cat((early.detach(), late.detach())))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-6, atol=1e-7)


def test_state_that_lies_otherwise_is_laid_out_as_its_parameter() -> None:
    """Moments [4, 3] stacked elsewhere, handed to a parameter whose memory is that of its transpose."""
    ends = []
    for transposed in (False, True):
        values = torch.arange(12.0).view(3, 4)
        parameter = torch.nn.Parameter(values.T if transposed else values.T.contiguous())
        optimizer = fast(torch.optim.Adam)([parameter], lr=0.1)
        moments = {name: torch.arange(12.0).view(4, 3) / 10 for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": torch.tensor(3.0), **moments}
        parameter.grad = torch.ones(4, 3)
        optimizer.step()
        ends.append(parameter.detach())
    torch.testing.assert_close(ends[0], ends[1])


@pytest.mark.parametrize(
    "keys",
    [
        {"momentum": 0.0},
        {"momentum": 0.9, "dampening": 0.1},
        {"momentum": 0.9, "foreach": True},
        {"momentum": 0.9, "fused": False},
    ],
)
def test_not_fused_where_it_does_not_pay_or_is_not_wanted(keys: dict[str, Any]) -> None:
    assert not fast(torch.optim.SGD)([torch.nn.Parameter(torch.zeros(1))], lr=0.1, **keys).defaults["fused"]


def test_what_is_not_torchs_stays_as_it_is() -> None:
    class Own(torch.optim.SGD):
        pass

    assert fast(Own) is Own
    assert fast(print) is print


def test_a_run_imports_no_compiler(tmp_path: Path) -> None:
    code = (
        "import sys; from clx.cli import main; "
        "main(['trainer.epochs=1', 'logger=none', 'output_root=o']); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_of_a_partial() -> None:
    made = fast(functools.partial(torch.optim.SGD, lr=0.5, momentum=0.9))([torch.nn.Parameter(torch.zeros(1))])
    assert isinstance(made, torch.optim.SGD)
    assert made.defaults["lr"] == 0.5
    assert made.defaults["fused"] is True
