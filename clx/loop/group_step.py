"""One training step of several runs at once; the single run's is in step.py."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clx.loop.course import Fitting
from clx.loop.fit import active
from clx.loop.stacked import Draws, Stack, Turn, Unbatchable, call
from clx.loop.stacked_optimizer import clip
from clx.loop.step import total
from clx.regularizer.base import Regularizer
from clx.strategy.finetune import Finetune
from clx.types import Batch, Objective

Terms = dict[str, Tensor]  # by name, [S]
LOGITS = " logits"  # beside them; no name of a term


class GroupStep:
    """A step of S runs: one forward and one backward pass over stacked parameters and a stacked batch [S, B, ...].

    Hooks that a strategy or a regularizer has of its own are called run by run, and find the run's own slices in the
    parameters and gradients. Raises Unbatchable before the first step where it would not give what the runs do alone.
    """

    def __init__(self, fittings: Sequence[Fitting], turn: Turn) -> None:
        first = fittings[0]
        self.strategies, self.turn = [f.trainer.strategy for f in fittings], turn
        self.regularizers: list[Mapping[str, Regularizer]] = [
            active(dict(f.trainer.regularizers.items()), f.phase)  # type: ignore[arg-type]  # ModuleDict forgets what it holds
            for f in fittings
        ]
        self.observe = first.phase.observe or self.strategies[0].observe
        if first.phase.observe is not None and getattr(self.observe, "__self__", None) is not self.strategies[0]:
            raise Unbatchable(f"phase {first.phase.name} has an objective that is no method of its strategy")
        self.clip_norm = first.trainer.settings.clip_norm
        self.stack = Stack([[s, *r.values()] for s, r in zip(self.strategies, self.regularizers, strict=True)])
        self.draws = Draws(self.strategies, turn)
        self.tried = False
        whole, parts = self.strategies[0], list(self.regularizers[0].values())
        self.backward = _own(whole, Finetune, "after_backward") or _own_of_any(parts, "after_backward")
        self.stepped = _own(whole, Finetune, "after_step") or _own_of_any(parts, "after_step")
        self.shares_gradients = self.backward or self.stepped
        self.offers = whole.buffer is not None  # what the parent's after_step does

    def __call__(self, batch: Batch) -> tuple[Terms, Tensor | None]:
        """Train on a batch; returns the terms [S] and, where the objective has them, the logits [S, B, K]."""
        terms, logits = self.forward(batch)
        for parameter in self.stack.trained:
            parameter.grad = None
        if terms:
            total(terms).sum().backward()  # the runs share nothing, so each gets its own gradient
        terms, logits = {k: v.detach() for k, v in terms.items()}, None if logits is None else logits.detach()
        if self.shares_gradients:
            self.stack.share_gradients()
        if self.backward:
            self._after_backward(batch)
            self.stack.collect_gradients()
        if terms:
            if self.clip_norm is not None:
                clip([p.grad for p in self.stack.trained if p.grad is not None], self.clip_norm)
            self.optimizer.step()
        if self.stepped or self.offers:
            self._after_step(batch, terms, logits)
        return terms, logits

    optimizer: torch.optim.Optimizer  # of the stacked parameters; whoever fits the phase sets it

    def forward(self, batch: Batch) -> tuple[Terms, Tensor | None]:
        """The objectives of all runs; the first time, Unbatchable where torch cannot vectorise them."""
        if self.tried:
            try:
                return self._forward(batch)
            except Unbatchable as error:  # too late: weights have changed since
                raise RuntimeError(f"the runs can no longer be trained as one: {error}") from error
        others = _other_generators()
        try:
            found = self._forward(batch)
        except Exception as error:
            self.draws.take_back(0)
            if isinstance(error, Unbatchable):
                raise
            raise Unbatchable(_in_words(error)) from error
        if _other_generators() != others:
            raise Unbatchable("the step draws from Python's or numpy's generator")
        self.tried = True
        return found

    def _forward(self, batch: Batch) -> tuple[Terms, Tensor | None]:
        model, regularizers = self.strategies[0].model, self.regularizers[0]

        def objective(x: Tensor, y: Tensor, t: Tensor) -> Terms:
            own = Batch(x, y, t, clock=batch.clock)  # an objective has no use for what is stored, or where
            found = self.observe(own)
            terms = dict(found.terms)
            for name, regularizer in regularizers.items():
                penalty = regularizer.penalty(model, own, found)
                if penalty is not None:
                    terms[name] = regularizer.weight * penalty
            return terms if found.logits is None else terms | {LOGITS: found.logits}

        terms = call(objective, self.stack, self.draws, batch.x, batch.y, batch.t)
        return terms, terms.pop(LOGITS, None)

    def _after_backward(self, batch: Batch) -> None:
        for number, (strategy, regularizers) in enumerate(zip(self.strategies, self.regularizers, strict=True)):
            own = of_run(batch, number)
            with self.turn(number):
                strategy.after_backward(own)
                for regularizer in regularizers.values():
                    regularizer.after_backward(strategy.model, own)

    def _after_step(self, batch: Batch, terms: Terms, logits: Tensor | None) -> None:
        for number, (strategy, regularizers) in enumerate(zip(self.strategies, self.regularizers, strict=True)):
            own, objective = of_run(batch, number), objective_of(terms, logits, number)
            with self.turn(number):
                strategy.after_step(own, objective)
                for regularizer in regularizers.values() if self.stepped else ():
                    regularizer.after_step(strategy.model, own)


def of_run(batch: Batch, number: int) -> Batch:
    """One run's part of a stacked batch."""
    x, y, t, raw, index = (
        None if c is None else c[number] for c in (batch.x, batch.y, batch.t, batch.raw, batch.index)
    )
    assert x is not None
    assert y is not None
    assert t is not None
    return Batch(x, y, t, raw, index, batch.clock)


def objective_of(terms: Terms, logits: Tensor | None, number: int) -> Objective:
    """One run's part of stacked terms and logits."""
    return Objective({name: v[number] for name, v in terms.items()}, None if logits is None else logits[number])


def _own(part: object, parent: type, hook: str) -> bool:
    """Whether it does something else there than its parent does."""
    return getattr(getattr(part, hook), "__func__", None) is not getattr(parent, hook)


def _own_of_any(regularizers: Sequence[Regularizer], hook: str) -> bool:
    return any(_own(regularizer, Regularizer, hook) for regularizer in regularizers)


def _other_generators() -> Any:
    state: Any = np.random.get_state(legacy=True)  # noqa: NPY002 - the global generator that others draw from
    return random.getstate(), state[2], state[1].tobytes()


def _in_words(error: Exception) -> str:
    """What torch could not do, in one line."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if "randomness" in text:
        return "its forward pass draws at random"
    if any(words in text for words in ("data-dependent", ".item()", "dynamic shape")):
        return "what its forward pass does depends on the values of its inputs (task labels, say)"
    return f"torch cannot vectorise its objective ({text[:160]})"
