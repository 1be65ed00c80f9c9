"""Real Fashion-MNIST, where it is installed: the numbers that a bare loop gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from clx.app import execute
from clx.config import compose, plain
from clx.data.mnist import SYSTEM
from clx.store.records import read

pytestmark = pytest.mark.skipif(
    not SYSTEM["fashion_mnist"][0].is_dir(), reason="Debian's package dataset-fashion-mnist is not installed"
)
SETTING = [
    "benchmark=split_fashion_mnist",
    "model.hidden_size=400",
    "model.hidden_layers=2",
    "model.drop_rate=0",
    "optimizer.lr=0.05",
    "trainer.batch_size=64",
    "trainer.epochs=1",
    "trainer.device=cpu",
    "logger=none",
]


@pytest.mark.parametrize(("strategy", "expected", "tolerance"), [("finetune", 0.199, 0.005), ("er", 0.785, 0.03)])
def test_accuracy_of_one_pass(strategy: str, expected: float, tolerance: float, tmp_path: Path) -> None:
    """One seed; the tolerance of er is three deviations over seeds (0.01), README has the means."""
    config = plain(compose([*SETTING, f"strategy={strategy}", f"data_root={tmp_path}"]))
    assert execute(config, tmp_path / "run") == 0
    record = read(tmp_path / "run")
    assert record.values["average_accuracy"] == pytest.approx(expected, abs=tolerance)
    assert record.values["learning_accuracy"] > 0.9
