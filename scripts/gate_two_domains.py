"""How often Expert Gate finds the right expert between handwritten digits and Fashion-MNIST.

    .venv/bin/python scripts/gate_two_domains.py

Both at 28x28 pixels; 1,500 training images of clothes and all digits; one expert each, over the features of a
perceptron with random weights; seeds 0, 1, 2.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from clx import Trainer
from clx.benchmark.split import Split
from clx.data.digits import Digits
from clx.data.mnist import MNIST
from clx.model.simple_mlp import SimpleMLP
from clx.strategy.expert_gate import ExpertGate
from clx.types import Experience, Samples

ROOT = str(Path(os.environ.get("CLX_DATA_ROOT", "~/.cache/clx/data")).expanduser())


class AsTheyAre:
    """The images are inputs already."""

    train = eval = staticmethod(torch.Tensor.float)


def domains() -> list[Split]:
    """The two data sets, each as one experience of ten classes."""
    size = {"num_experiences": 1, "image_size": 28, "resize": "interpolate", "root": ROOT}
    clothes = Split(data=MNIST("fashion_mnist"), samples_per_class=150, test_samples_per_class=100, **size)
    return [Split(data=Digits(), **size), clothes]


def main() -> None:
    """Print, for each seed, the part of each test set that its own expert is chosen for."""
    streams = domains()
    for seed in range(3):
        torch.manual_seed(seed)
        strategy = ExpertGate(
            SimpleMLP(),
            ae_train_mb_size=32,
            ae_train_epochs=20,
            ae_latent_dim=None,
            ae_lr=1e-3,
            temp=2.0,
            rel_thresh=0.85,
            expert_hidden=[100],
            top_k=1,
            holdout=0.1,
            lwf_weight=1.0,
            lwf_temperature=2.0,
            seed=seed,
        )
        trainer = Trainer(strategy, epochs=5, batch_size=32, transform=AsTheyAre, device="cpu", seed=seed)
        for number, stream in enumerate(streams):
            data, first = stream.train[0].data, 10 * number
            samples = Samples(stream.transform.eval(data.raw), data.y + first, torch.zeros_like(data.y))
            classes = tuple(range(first, first + 10))
            trainer.train(
                Experience(index=number, classes=classes, previous_classes=tuple(range(first)), train=samples)
            )
        strategy.eval()
        right = []
        for number, stream in enumerate(streams):
            chosen = strategy.probabilities(stream.transform.eval(stream.test[0].raw)).argmax(1)
            right.append((chosen == number).float().mean().item())
        print(f"seed {seed}: digits {right[0]:.3f}, Fashion-MNIST {right[1]:.3f}")


if __name__ == "__main__":
    main()
