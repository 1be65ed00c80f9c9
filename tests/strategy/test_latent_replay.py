"""Replay of activations in the middle of the network."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from clx.buffer.latent_replay import LatentReplay as LatentBuffer
from clx.buffer.reservoir import Reservoir
from clx.loop.trainer import Trainer
from clx.model.head.incremental import IncrementalClassifier
from clx.model.resnet32 import ResNet32
from clx.strategy.finetune import Finetune
from clx.strategy.latent_replay import LatentReplay


def latent(model: Any, capacity: int = 12, at: Any = 1, batch: int = 8) -> LatentReplay:
    return LatentReplay(model, LatentBuffer(capacity, 0), latent_layer_num=at, train_mb_size=batch)


def test_equals_finetune_with_nothing_stored_and_nothing_frozen(train_tiny: Any) -> None:
    plain = train_tiny(Finetune)
    other = train_tiny(lambda model: latent(model, capacity=0, at=None, batch=5))
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_below_the_cut_nothing_moves_after_the_first_experience(make_benchmark: Any) -> None:
    """Weights and BatchNorm statistics; above it everything learns. Momentum and weight decay included."""
    torch.manual_seed(0)
    model = ResNet32(in_channels=1, blocks=1)
    model.classifier = IncrementalClassifier(64)
    strategy, stream = latent(model, at="body.3"), make_benchmark().train
    sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1)
    trainer = Trainer(strategy, sgd, device="cpu", batch_size=8)
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    trainer.train(stream[:1])
    first = {name: value.clone() for name, value in model.state_dict().items()}
    assert all(not torch.equal(fresh[name], first[name]) for name in first if name.startswith("body.0."))
    trainer.train(stream[1:2])
    for name, value in model.state_dict().items():
        below = name.startswith(("body.0.", "body.1.", "body.2.", "body.3."))
        if name in first and not name.startswith("classifier."):
            assert torch.equal(value, first[name]) == below, name


def test_the_lower_part_runs_once_for_each_experience(make_benchmark: Any, make_model: Any) -> None:
    """Three epochs of 16 samples: in the first experience 48 through it and 16 more to store; later 16."""
    model, seen = make_model(), []
    strategy = latent(model)
    model.body[1].register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    trainer = Trainer(strategy, device="cpu", epochs=3, batch_size=8)
    counts = []
    for experience in make_benchmark().train:
        seen.clear()
        trainer.train(experience)
        counts.append(sum(seen))
    assert counts == [48 + 16, 16, 16]


def test_latents_stay_with_their_labels(make_benchmark: Any, make_model: Any) -> None:
    """Every stored latent is that of a sample of the class it is stored under, and of none other."""
    strategy = latent(make_model(), capacity=20)
    benchmark = make_benchmark()
    Trainer(strategy, device="cpu", batch_size=8).train(benchmark.train[:1])
    data = benchmark.train[0].data
    known = strategy.split.lower(benchmark.transform.eval(data.raw))
    stored = strategy.buffer.samples()
    assert len(stored) == 16
    for row, label in zip(stored.raw, stored.y, strict=True):
        (match,) = (known - row).abs().sum(1).lt(1e-6).nonzero().flatten().tolist()
        assert data.y[match] == label


def test_mini_batches_are_of_new_and_stored_samples(make_benchmark: Any, make_model: Any) -> None:
    """16 new and 32 stored in batches of 12: 4 of the new and 8 of the stored, 4 steps an epoch."""
    strategy, sizes = latent(make_model(), capacity=32, batch=12), []
    trainer, stream = Trainer(strategy, device="cpu", batch_size=12), make_benchmark().train
    trainer.train(stream[:2])
    assert len(strategy.buffer) == 32
    upper = strategy.split.upper
    strategy.split.upper = lambda z: (sizes.append(len(z)), upper(z))[1]
    trainer.grow(stream[2])
    phase = next(strategy.phases(stream[2]))
    assert phase.batch_size == 4
    trainer.train(stream[2])
    assert sizes == [12] * 4


def test_what_does_not_fit(make_benchmark: Any, make_model: Any) -> None:
    model, benchmark = make_model(), make_benchmark()
    assert latent(model).conflict(benchmark) is None
    other = LatentReplay(model, Reservoir(5, 0, offer="first_epoch"), latent_layer_num=1, train_mb_size=8)
    assert "set buffer=latent_replay" in str(other.conflict(benchmark))
    with pytest.raises(ValueError, match=r"^latent_layer_num body.9: .* no such layer"):
        latent(model, at="body.9")
