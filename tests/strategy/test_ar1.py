"""AR1: its parts together."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from clx.buffer.latent_replay import LatentReplay as LatentBuffer
from clx.cli import main
from clx.config import compose, plain
from clx.loop.trainer import Trainer
from clx.model.batch_renorm import BatchRenorm
from clx.model.head.cwr import CWRClassifier
from clx.model.mlp import MLP
from clx.strategy.ar1 import AR1

DOCUMENTED = {
    "lr": 0.001, "momentum": 0.9, "l2": 0.0005, "train_epochs": 4, "init_update_rate": 0.01, "inc_update_rate": 5e-05,
    "max_r_max": 1.25, "max_d_max": 0.5, "inc_step": 4.1e-05, "rm_sz": 1500,
    "freeze_below_layer": "lat_features.19.bn.beta", "latent_layer_num": 19, "ewc_lambda": 0, "train_mb_size": 128,
    "eval_mb_size": 128,
}  # fmt: skip


def ar1(capacity: int = 12, **options: Any) -> AR1:
    torch.manual_seed(0)
    model = MLP(2, 16, (8, 8), batch_norm=True)  # flatten; linear, norm, relu, dropout; the same again
    model.classifier = CWRClassifier(8)
    given = {
        "inc_lr": 0.02, "init_update_rate": 0.1, "inc_update_rate": 0.01, "max_r_max": 1.25, "max_d_max": 0.5,
        "inc_step": 1e-3, "freeze_below_layer": None, "latent_layer_num": 4, "train_mb_size": 8,
    }  # fmt: skip
    return AR1(model, LatentBuffer(capacity, 0), **given | options)


def trained(strategy: AR1, stream: Any) -> Trainer:
    trainer = Trainer(strategy, partial(torch.optim.SGD, lr=0.1, momentum=0.9), device="cpu", epochs=2, batch_size=8)
    trainer.train(stream)
    return trainer


def test_the_yaml_has_the_documents_parameters_and_sets_the_rest_of_the_run() -> None:
    config = plain(compose(["strategy=ar1", "strategy.lr=0.2", "strategy.rm_sz=77", "strategy.ewc_lambda=3"]))
    assert {key: config["strategy"][key] for key in DOCUMENTED} == DOCUMENTED | {
        "lr": 0.2,
        "rm_sz": 77,
        "ewc_lambda": 3,
    }
    assert (config["optimizer"]["lr"], config["optimizer"]["momentum"], config["optimizer"]["weight_decay"]) == (
        0.2, 0.9, 0.0005,
    )  # fmt: skip
    trainer = config["trainer"]
    assert (trainer["epochs"], trainer["batch_size"], trainer["eval_batch_size"]) == (4, 128, 128)
    assert config["buffer"]["capacity"] == 77
    assert config["regularizer"]["si"]["weight"] == 3
    assert set(AR1.owned) <= set(config["strategy"])


@pytest.mark.parametrize(
    ("word", "own"),
    [
        ("optimizer.lr=0.1", "strategy.lr"),
        ("trainer.epochs=9", "strategy.train_epochs"),
        ("buffer.capacity=9", "strategy.rm_sz"),
    ],
)
def test_a_value_that_disagrees_is_refused(word: str, own: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["strategy=ar1", word]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"set {own} instead" in error


def test_batch_norm_becomes_batch_renorm_with_its_two_paces(make_benchmark: Any) -> None:
    strategy, stream = ar1(), make_benchmark().train
    layers = [m for m in strategy.model.modules() if isinstance(m, BatchRenorm)]
    assert len(layers) == 2
    assert not any(isinstance(m, nn.BatchNorm1d) for m in strategy.model.modules())
    assert [layer.momentum for layer in layers] == [0.1, 0.1]
    before = layers[0].running_mean.clone()
    trainer = trained(strategy, stream[:1])
    assert not torch.equal(layers[0].running_mean, before)  # the first experience trains its statistics too
    trainer.grow(stream[1])
    assert [layer.momentum for layer in layers] == [0.01, 0.01]
    assert [layer.r_max.item() for layer in layers] == [1.25, 1.25]
    assert [layer.d_max.item() for layer in layers] == [0.5, 0.5]


@pytest.mark.parametrize(("layer", "frozen"), [(None, 4), ("body.1.weight", 4), ("body.6.beta", 5)])
def test_what_is_frozen(layer: str | None, frozen: int, make_benchmark: Any) -> None:
    """Up to the cut at unit 4 at least; up to the second normalisation, its linear map, where that is said."""
    strategy, stream = ar1(freeze_below_layer=layer), make_benchmark().train
    trained(strategy, stream[:2])
    still = {name for name, p in strategy.model.body.named_parameters() if not p.requires_grad}
    assert {int(name.split(".")[0]) for name in still} == {
        n for n in range(frozen + 1) if list(strategy.model.body[n].parameters())
    }


def test_learning_rates(make_benchmark: Any) -> None:
    stream, strategy = make_benchmark().train, ar1()
    assert "lr" not in strategy.get_parameters(stream[0])[0]
    assert strategy.get_parameters(stream[1])[0]["lr"] == 0.02


def test_the_head_starts_with_the_classes_at_hand_and_is_consolidated(make_benchmark: Any) -> None:
    """Two classes of eight samples; then two more, beside the stored ones of the first."""
    strategy, stream = ar1(capacity=6), make_benchmark().train
    trainer = trained(strategy, stream[:1])
    assert strategy.head.past.tolist() == [8, 8]
    assert torch.equal(strategy.head.classifier.weight, strategy.head.consolidated)
    assert strategy.head.consolidated.mean().abs() < 1e-6  # of one experience: the mean is taken off
    stored = strategy.buffer.samples().y.bincount(minlength=2).tolist()
    trainer.grow(stream[1])
    strategy.before_task(stream[1])
    kept = strategy.head.consolidated
    assert torch.equal(strategy.head.classifier.weight[:2], kept[:2])
    assert not strategy.head.classifier.weight[2:].any()
    trainer.train(stream[1:2])
    assert strategy.head.past.tolist() == [8 + stored[0], 8 + stored[1], 8, 8]


def test_it_learns_a_stream_and_keeps_more_than_finetune(make_benchmark: Any) -> None:
    benchmark = make_benchmark()
    strategy = ar1(capacity=30)
    trainer = Trainer(strategy, partial(torch.optim.SGD, lr=0.1, momentum=0.9), device="cpu", epochs=20, batch_size=8)
    metrics = trainer.train(benchmark.train, benchmark.test)
    assert metrics["average_accuracy"] > 0.5  # chance is 1/6, fine-tuning 1/3 at the most


def test_what_does_not_fit(make_benchmark: Any) -> None:
    assert "strategy.rm_sz=5 < 6 classes" in str(ar1(capacity=5).conflict(make_benchmark()))
    for wrong, start in (
        ({"latent_layer_num": "body.99"}, "latent_layer_num body.99"),
        ({"freeze_below_layer": "body.99"}, "freeze_below_layer body.99"),
        ({"max_r_max": 0.5}, "max_r_max 0.5"),
        ({"max_d_max": -1.0}, "max_d_max -1"),
    ):
        with pytest.raises(ValueError, match=f"^{start}"):
            ar1(**wrong)
