"""torchvision works through its one door, with its compiled operators or without them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from clx.runtime.torchvision import torchvision

WITHOUT_OPERATORS = """
import torch

def refuse(path):
    raise OSError("no compiled operators here")

torch.ops.load_library = refuse
from clx.runtime.torchvision import torchvision
assert not torchvision.extension._has_ops()
print(torchvision.models.squeezenet1_1(num_classes=3).eval()(torch.zeros(1, 3, 64, 64)).shape)
"""


def test_models() -> None:
    model = torchvision.models.resnet18(num_classes=7).eval()
    with torch.no_grad():
        logits = model(torch.rand(2, 3, 32, 32))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


def test_transforms() -> None:
    """A flip turns columns 0 1 2 into 2 1 0; a centre crop of 1 keeps the middle of 3x3."""
    from torchvision.transforms import v2

    image = torch.arange(9, dtype=torch.uint8).view(1, 3, 3)
    assert v2.RandomHorizontalFlip(p=1.0)(image)[0, 0].tolist() == [2, 1, 0]
    assert v2.CenterCrop(1)(image).tolist() == [[[4]]]


@pytest.mark.slow  # another process imports torch and torchvision
def test_compiled_operators_are_not_needed() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_OPERATORS], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "torch.Size([1, 3])"
