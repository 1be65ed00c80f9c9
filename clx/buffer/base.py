"""What every buffer shares: rows, drawing from them, state; and the two ways in which one is filled."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from clx.runtime import device as devices
from clx.runtime import seed as seeding
from clx.types import Batch, Clock, Experience, Samples

Offer = Literal["first_epoch", "every_epoch", "experience"]
Embed = Callable[[Samples], Tensor]  # samples [N, ...] -> features [N, D], in eval mode, without augmentation
CHUNK = 1024  # samples of an experience that are offered at a time


class Buffer:
    """At most `capacity` stored samples: inputs as stored by the data set, classes, task labels, extra fields.

    seed: of every random choice here. A strategy calls add() after each step and consolidate() after each
    experience; a buffer acts on one of the two, so any buffer serves any strategy. The rows lie where keep_on says;
    what is drawn, and how, does not depend on it.
    """

    own: frozenset[str] = frozenset()  # fields of the buffer itself, which no batch is given

    def __init__(self, capacity: int, seed: int) -> None:
        if capacity < 0:
            raise ValueError(f"capacity {capacity} < 0; it counts the samples stored")
        self.capacity, self.seed = capacity, seed
        self.rows: dict[str, Tensor] = {}  # name -> [capacity, ...]; made when the first sample shows its shape
        self.size = 0
        self.draw = seeding.generator("buffer", seed)
        self.transform: Callable[[Tensor], Tensor] = torch.Tensor.float
        self.device = torch.device("cpu")  # of the batches
        self.home = torch.device("cpu")  # of the rows
        self.chosen_home: torch.device | None = None

    def keep_on(self, device: str) -> None:
        """Where the rows lie: auto (on the GPU where that trains, else in RAM), cpu, cuda or cuda:N.

        Raises ValueError where there is no such device.
        """
        self.chosen_home = None if device == "auto" else devices.resolve(str(device))
        self._move(self.chosen_home or self.device)

    def attach(self, transform: Callable[[Tensor], Tensor], device: torch.device) -> None:
        """Say how stored inputs become the model's, and on which device."""
        self.transform, self.device = transform, device
        self._move(self.chosen_home or device)

    def _move(self, home: torch.device) -> None:
        if home != self.home:
            self.home = home
            self.rows = {name: values.to(home) for name, values in self.rows.items()}

    def add(self, batch: Batch, **fields: Tensor) -> None:
        """Offer a batch of the stream, with extra tensors [B, ...] to keep beside each sample."""

    def consolidate(self, experience: Experience, embed: Embed) -> None:
        """Choose what to keep of an experience that is over."""

    def fill(self, experience: Experience, embed: Embed) -> None:
        """Take in a whole experience at once, for strategies that do not add() step by step."""
        self.consolidate(experience, embed)

    def sample(self, count: int) -> Batch:
        """At most count samples, uniformly and without replacement, ready for the model."""
        if not self.size:
            nothing = torch.empty(0, dtype=torch.int64, device=self.device)
            return Batch(nothing.float(), nothing, nothing)
        return self.pick(torch.randperm(self.size, generator=self.draw)[:count])

    def pick(self, slots: Tensor) -> Batch:
        """The samples in slots [n], ready for the model."""
        slots = slots.to(self.home)
        picked = {
            name: values.index_select(0, slots).to(self.device)
            for name, values in self.rows.items()
            if name not in self.own
        }
        raw, y, t = (picked.pop(name) for name in ("raw", "y", "t"))
        return Batch(self.transform(raw), y, t, raw, fields=picked)

    def samples(self) -> Samples:
        """All that is stored, in RAM; an empty buffer that never saw a sample has nothing to give."""
        if not self.rows:
            nothing = torch.empty(0, dtype=torch.int64)
            return Samples(nothing, nothing, nothing)
        return Samples(*(self.rows[name][: self.size].to("cpu", copy=True) for name in ("raw", "y", "t")))

    def __len__(self) -> int:
        return self.size

    @property
    def nbytes(self) -> int:
        """Bytes that the stored samples take."""
        return sum(values[: self.size].numel() * values.element_size() for values in self.rows.values())

    def write(self, slots: Tensor, **fields: Tensor) -> None:
        """Put values [n, ...] into the rows slots [n], each slot at most once."""
        there = slots.to(self.home)
        for name, given in fields.items():
            values = given.detach().to(self.home)
            if name not in self.rows:
                self.rows[name] = values.new_zeros(self.capacity, *values.shape[1:])
            stored = self.rows[name]
            wider = values.shape[-1] - stored.shape[-1] if values.dim() > 1 else 0
            if wider > 0 and values.is_floating_point():  # logits of a head that has grown
                padding = stored.new_full((*stored.shape[:-1], wider), math.nan)
                self.rows[name] = stored = torch.cat((stored, padding), -1)
            elif wider < 0:
                values = torch.cat((values, values.new_full((*values.shape[:-1], -wider), math.nan)), -1)
            stored[there] = values
        if self.size < self.capacity and len(slots):
            self.size = max(self.size, int(slots.max()) + 1)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers from which load_state_dict makes the same buffer, on whatever device."""
        rows = {name: values.cpu() for name, values in self.rows.items()}
        return {"rows": rows, "size": self.size, "draw": self.draw.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the buffer that gave the state."""
        self.rows = {name: values.to(self.home, copy=True) for name, values in state["rows"].items()}
        self.size = state["size"]
        self.draw.set_state(state["draw"])


class StreamingBuffer(Buffer, ABC):
    """Takes or leaves each sample as it is offered, without knowing what will come.

    offer: when that is. first_epoch: after the step that first trained on it (the papers' single pass);
    every_epoch: after each such step, so a sample of E epochs is offered E times; experience: all at once
    when their experience is over, so that nothing of an experience is replayed while it is being trained.
    """

    def __init__(self, capacity: int, seed: int, *, offer: Offer) -> None:
        super().__init__(capacity, seed)
        self.offer = offer

    @abstractmethod
    def place(self, batch: Batch) -> dict[int, int]:
        """slot -> position in the batch of the sample that it ends up with."""

    def add(self, batch: Batch, **fields: Tensor) -> None:
        if self.offer == "every_epoch" or (self.offer == "first_epoch" and batch.clock.epoch == 0):
            self._take(batch, **fields)

    def consolidate(self, experience: Experience, embed: Embed) -> None:
        if self.offer == "experience":
            self.fill(experience, embed)

    def fill(self, experience: Experience, embed: Embed) -> None:
        everything = experience.data
        for start in range(0, len(everything), CHUNK):  # in order, so that it comes to the same as all at once
            data = everything[start : start + CHUNK]
            raw = data.raw
            self._take(Batch(raw, data.y, data.t, raw, clock=Clock(experience.index)))

    def _take(self, batch: Batch, **fields: Tensor) -> None:
        if self.capacity == 0:
            return
        assert batch.raw is not None
        placed = self.place(batch)
        if placed:
            slots, chosen = torch.tensor(list(placed)), torch.tensor(list(placed.values()), device=batch.y.device)
            values = {"raw": batch.raw, "y": batch.y, "t": batch.t, **fields}
            self.write(slots, **{name: value.index_select(0, chosen) for name, value in values.items()})


class SelectingBuffer(Buffer, ABC):
    """Filled at the end of each experience, an equal share for each class that has come, in order of preference.

    per_class: at most that many of each class (the fixed memory of some papers); None = as many as fit. Old classes
    give up their least preferred samples. The share of capacity that does not divide goes to the
    classes that came first. A class that comes again in another experience counts as another class.
    """

    own = frozenset({"group"})

    def __init__(self, capacity: int, seed: int, *, per_class: int | None) -> None:
        super().__init__(capacity, seed)
        if per_class is not None and per_class < 1:
            raise ValueError(f"per_class {per_class} < 1; give at least 1, or null to share the capacity")
        self.per_class = per_class

    @abstractmethod
    def rank(self, samples: Samples, embed: Embed, count: int) -> Tensor:
        """Positions of the count samples of one class to keep, the most preferred first."""

    def consolidate(self, experience: Experience, embed: Embed) -> None:
        kept = self._groups()
        data = experience.data
        arrived = [data[data.y == label] for label in experience.classes]
        available = [len(group) for group in kept + arrived]
        counts = quotas(self.capacity, [min(count, self.per_class or count) for count in available])
        parts = [group[:count] for group, count in zip(kept, counts, strict=False)]
        for samples, count in zip(arrived, counts[len(kept) :], strict=True):
            parts.append(samples[self.rank(samples, embed, count)] if count else samples[:0])
        raw, y, t = (torch.cat([getattr(part, name) for part in parts]) for name in ("raw", "y", "t"))
        group = torch.repeat_interleave(torch.tensor([len(part) for part in parts]))
        self.write(torch.arange(len(y)), raw=raw, y=y, t=t, group=group)
        self.size = len(y)

    def _groups(self) -> list[Samples]:
        if not self.rows:
            return []
        samples, group = self.samples(), self.rows["group"][: self.size].cpu()
        return [samples[group == g] for g in range(int(group.max()) + 1)] if self.size else []


def quotas(capacity: int, available: list[int]) -> list[int]:
    """How many samples each class may keep: equal shares, the remainder to the first classes.

    What a class cannot fill goes to the others, so the sum is min(capacity, sum(available)).
    """
    shares = [0] * len(available)
    left = min(capacity, sum(available))
    while left:
        hungry = [i for i, count in enumerate(available) if shares[i] < count]
        share = left // len(hungry)
        for i in hungry if share else hungry[:left]:
            shares[i] = min(available[i], shares[i] + max(share, 1))
        left = min(capacity, sum(available)) - sum(shares)
    return shares
