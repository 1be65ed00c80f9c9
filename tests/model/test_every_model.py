"""Every option of `model` on an image benchmark: built through the configuration, it grows, trains and evaluates."""

from __future__ import annotations

import pytest
import torch

from clx.build import build
from clx.command.list import options
from clx.config import compose, plain
from clx.validation import check


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", options("model"))
def test_trains_on_images_of_32x32(name: str, channels: int) -> None:
    words = ["benchmark=synthetic", "benchmark.data.train_per_class=4", "benchmark.data.num_classes=4",
             "benchmark.num_experiences=2", "benchmark.image_size=32", f"benchmark.channels={channels}",
             "benchmark.scenario=task_incremental", "trainer.epochs=1", "trainer.device=cpu",
             f"model={name}"]  # fmt: skip
    config = plain(compose(words))
    check(config)
    made = build(config)
    made.trainer.attach(made.benchmark.transform)
    made.trainer.grow(made.benchmark.train[0])
    before = {key: value.clone() for key, value in made.trainer.strategy.model.state_dict().items()}
    made.trainer.train(made.benchmark.train[:1])
    after = made.trainer.strategy.model.state_dict()
    moved = [key for key, value in before.items() if not torch.equal(value, after[key])]
    assert [key for key in moved if key.startswith(("body", "lat_features", "columns"))]
    assert made.trainer.eval(made.benchmark.test)["accuracy/0"] is not None
