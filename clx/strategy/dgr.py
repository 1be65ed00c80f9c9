"""Deep generative replay."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import ConstantLR

from clx.buffer.base import Buffer
from clx.loss.generative import soft_cross_entropy, variational_bound
from clx.model.base import Model
from clx.model.frozen import Frozen, frozen_copy
from clx.model.vae import VAE
from clx.strategy.finetune import Finetune
from clx.types import Batch, Experience, Objective, Phase


class DGR(Finetune):
    """A generator is trained beside the solver; both replay what the generator of before draws, labelled by the solver
    of before: as many samples in each step as are new.

    Shin et al. 2017, arXiv:1705.08690, Eq. 1; distillation as in van de Ven & Tolias 2018, arXiv:1809.10635. r -> r,
    importance of new data (null: 1 / experiences so far); distill: replayed samples keep all probabilities of the old
    solver, softened by temperature, not its answer alone; z_dim, hidden, generator_epochs, generator_lr: of the
    generator. Equals finetune at r = 1.
    Differs from the paper: the generator is a variational autoencoder, as van de Ven & Tolias have it, not a WGAN-GP; a
    solver with a head for each task replays each sample under an earlier task drawn at random; the generator sees
    samples without augmentation, cut to the range of the first experience's.
    """

    def __init__(
        self,
        model: Model,
        buffer: Buffer | None = None,
        *,
        r: float | None,
        distill: bool,
        temperature: float,
        z_dim: int,
        hidden: Sequence[int],
        generator_epochs: int | None,
        generator_lr: float,
    ) -> None:
        super().__init__(model, buffer)
        if r is not None and not 0 < r <= 1:
            raise ValueError(f"r {r} is outside (0, 1]; 1 is without replay, null 1 / experiences so far")
        for name, value in (("temperature", temperature), ("generator_lr", generator_lr)):
            if not value > 0:
                raise ValueError(f"{name} {value}: must be greater than 0")
        if min((z_dim, *hidden)) < 1 or (generator_epochs is not None and generator_epochs < 1):
            raise ValueError(
                f"z_dim {z_dim}, hidden {list(hidden)}, generator_epochs {generator_epochs}: at least 1 each"
            )
        self.r, self.distill, self.temperature = r, distill, temperature
        self.z_dim, self.hidden = z_dim, tuple(hidden)
        self.generator_epochs, self.generator_lr = generator_epochs, generator_lr
        self.generator: VAE | None = None
        self.previous: VAE | None = None
        self.teacher: Frozen | None = None
        self.num_old, self.weight = 0, 1.0
        self.tasks: tuple[int, ...] = ()
        self.register_buffer("old_tasks", torch.zeros(0, dtype=torch.int64))
        self.old_tasks: Tensor

    def conflict(self, benchmark: Any) -> str | None:
        if self.buffer is not None:
            return "buffer: generative replay stores no samples; set buffer=none"
        return super().conflict(benchmark)

    def adaptation(self, experience: Experience) -> None:
        if self.r != 1:
            self.remember(experience)
        super().adaptation(experience)

    def remember(self, experience: Experience) -> None:
        """Keep generator and solver as they are, before they change; make the first generator."""
        self.old_tasks = self.old_tasks.new_tensor(self.tasks)
        self.tasks = tuple(dict.fromkeys((*self.tasks, *experience.classes_by_task)))
        self.num_old = len(experience.previous_classes)
        if self.generator is None:
            one = experience.data.take(torch.zeros(1, dtype=torch.int64, device=experience.data.y.device))
            shape = self.eval_transform(one.to(self.device)).shape[1:]
            self.generator = VAE(shape, hidden=self.hidden, z_dim=self.z_dim).to(self.device)
            return
        self.weight = 1 / (experience.index + 1) if self.r is None else self.r
        self.previous = copy.deepcopy(self.generator).requires_grad_(False)
        self.teacher = frozen_copy(self.model)

    def before_task(self, experience: Experience) -> None:
        if self.generator is not None and self.previous is None:
            values = self.embed(experience.data, channel_range)
            self.generator.set_range(values[:, 0].amin(0), values[:, 1].amax(0))

    def phases(self, experience: Experience) -> Iterator[Phase]:
        if self.generator is not None:
            yield Phase(
                name="generator",
                data=experience.data,
                epochs=self.generator_epochs,
                transform=self.eval_transform,
                parameters=[{"params": list(self.generator.parameters())}],
                optimizer=partial(torch.optim.Adam, lr=self.generator_lr),
                scheduler=partial(ConstantLR, factor=1.0),  # the run's is for the solver
                observe=self.observe_generator,
            )
        yield Phase(name="train", data=experience.data)

    def observe_generator(self, batch: Batch) -> Objective:
        """The generator on new samples, and on those that the one of before draws."""
        terms = {"vae": self.weight * self.bound(batch.x)}
        if self.previous is not None:
            terms["vae_replay"] = (1 - self.weight) * self.bound(self.previous.sample(len(batch)))
        return Objective(terms)

    def bound(self, x: Tensor) -> Tensor:
        """The generator's loss on inputs x [B, ...]."""
        assert self.generator is not None
        unit = self.generator.unit(x)
        logits, mean, log_variance = self.generator(unit)
        return variational_bound(logits, unit, mean, log_variance)

    def observe(self, batch: Batch) -> Objective:
        logits = self.model(batch.x, batch.t)
        terms = {"ce": self.weight * cross_entropy(logits, batch.y)}
        if self.previous is not None:
            x, t, answers = self.replayed(len(batch))
            terms["replay"] = (1 - self.weight) * self.replay_loss(self.model(x, t), answers)
        return Objective(terms, logits)

    def replayed(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """So many inputs [count, ...] of the old generator, task labels [count] for them, and the old solver's logits
        of its own classes."""
        assert self.previous is not None
        assert self.teacher is not None
        x = self.previous.sample(count)
        t = self.old_tasks[torch.randint(len(self.old_tasks), (count,), device=x.device)]
        return x, t, self.teacher(x, t)[:, : self.num_old]

    def replay_loss(self, logits: Tensor, answers: Tensor) -> Tensor:
        """logits [B, K] of replayed samples held to answers [B, num_old]."""
        if self.distill:
            return soft_cross_entropy(logits, answers, self.temperature)
        return cross_entropy(logits, answers.argmax(1))


def channel_range(x: Tensor) -> Tensor:
    """The least and the largest value [B, 2, C] in each channel of x [B, C, ...]."""
    flat = x.reshape(len(x), x.shape[1], -1)
    return torch.stack((flat.amin(2), flat.amax(2)), 1)
