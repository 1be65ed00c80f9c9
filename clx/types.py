"""What passes between the parts of clx: samples, batches, experiences, objectives, phases.

Shapes: N samples of a set, B samples of a batch, K classes seen so far, ... the shape of one sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Clock:
    """Where training stands: experience and epoch count from 0, step within the phase of `steps` steps."""

    experience: int = 0
    phase: str = "train"
    epoch: int = 0
    step: int = 0
    steps: int = 0


@dataclass(slots=True)
class Batch:
    """Samples on the device, ready for the model.

    x [B, ...] float32; y [B] class columns; t [B] task labels; raw [B, ...] as stored, before
    augmentation (what a buffer keeps; None for latents and generated samples); index [B] positions in
    the Samples they came from; fields: extra tensors [B, ...] that a buffer stored beside them.
    """

    x: Tensor
    y: Tensor
    t: Tensor
    raw: Tensor | None = None
    index: Tensor | None = None
    clock: Clock = Clock()
    fields: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.y)

    def __add__(self, other: Batch) -> Batch:
        """Join two batches for one forward pass; raw, index and fields, which a forward never reads, stay behind."""
        if not len(other):
            return self
        return Batch(
            torch.cat((self.x, other.x)), torch.cat((self.y, other.y)), torch.cat((self.t, other.t)), clock=self.clock
        )

    def by_task(self) -> Iterator[tuple[int, Batch]]:
        """Each task label with its samples; itself where there is one label alone."""
        tasks = self.t.unique().tolist()
        for task in tasks:
            yield task, self if len(tasks) == 1 else self[self.t == task]

    def __getitem__(self, index: Any) -> Batch:
        pick = lambda tensor: None if tensor is None else tensor[index]  # noqa: E731 - one expression, used thrice
        fields = {name: value[index] for name, value in self.fields.items()}
        return Batch(self.x[index], self.y[index], self.t[index], pick(self.raw), pick(self.index), self.clock, fields)


class Storage(Protocol):
    """Inputs [M, ...] in memory (a tensor), or wherever index_select(0, rows [B]) gets them from when it is asked."""

    @property
    def shape(self) -> Sequence[int]: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def device(self) -> torch.device: ...
    def __len__(self) -> int: ...
    def index_select(self, dim: int, index: Tensor, /) -> Tensor: ...


class Samples:
    """A set of samples: raw [N, ...] (uint8 for images), y [N] class columns, t [N] task labels.

    Views made by indexing share the storage: `data` [M, ...] is never copied nor changed, `rows` [N] says which of it
    belong to this set (None = all, in order).
    """

    __slots__ = ("data", "rows", "t", "y")

    def __init__(self, data: Storage, y: Tensor, t: Tensor, rows: Tensor | None = None) -> None:
        count = len(data) if rows is None else len(rows)
        if not count == len(y) == len(t):
            raise ValueError(f"samples: {count} inputs, {len(y)} classes, {len(t)} task labels; give one of each")
        self.data, self.y, self.t, self.rows = data, y, t, rows

    @property
    def raw(self) -> Tensor:
        """All inputs [N, ...]; a copy where this is a view, and read into memory where they lie in files."""
        if self.rows is None and isinstance(self.data, Tensor):
            return self.data
        return self.take(torch.arange(len(self), device=self.y.device))

    def take(self, index: Tensor) -> Tensor:
        """The inputs [B, ...] at positions index [B]."""
        # index_select: several times as fast as data[index] for rows of bytes.
        return self.data.index_select(0, index if self.rows is None else self.rows.index_select(0, index))

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Tensor | slice) -> Samples:
        if isinstance(index, slice):
            index = torch.arange(len(self), device=self.y.device)[index]
        elif index.dtype == torch.bool:
            index = index.nonzero().squeeze(1)
        else:
            index = torch.where(index < 0, index + len(self), index)
        return Samples(self.data, self.y[index], self.t[index], index if self.rows is None else self.rows[index])

    def __add__(self, other: Samples) -> Samples:
        """Both sets, this one first; a view where they share their storage."""
        if not len(other):
            return self
        if not len(self):
            return other
        y, t = torch.cat((self.y, other.y)), torch.cat((self.t, other.t))
        if self.data is other.data:
            everything = torch.arange(len(self.data), device=self.data.device)
            rows = torch.cat([everything if s.rows is None else s.rows for s in (self, other)])
            return Samples(self.data, y, t, rows)
        if isinstance(self.data, Tensor) and isinstance(other.data, Tensor):
            return Samples(torch.cat((self.raw, other.raw)), y, t)
        return Samples(Joined(self, other), y, t)


class Joined:
    """Storage of two sets, one after the other, of which one at least does not lie in memory."""

    def __init__(self, first: Samples, second: Samples) -> None:
        if first.data.shape[1:] != second.data.shape[1:] or first.data.dtype != second.data.dtype:
            one, other = (f"{tuple(s.data.shape[1:])} {s.data.dtype}" for s in (first, second))
            raise ValueError(f"samples: inputs {one} cannot join inputs {other}")
        self.first, self.second = first, second
        self.shape = torch.Size((len(first) + len(second), *first.data.shape[1:]))
        self.dtype, self.device = first.data.dtype, torch.device("cpu")

    def __len__(self) -> int:
        return self.shape[0]

    def index_select(self, dim: int, index: Tensor, /) -> Tensor:
        """The inputs [B, ...] at positions index [B]; dim is 0."""
        out = torch.empty((len(index), *self.shape[1:]), dtype=self.dtype)
        border = len(self.first)
        for part, inside, start in ((self.first, index < border, 0), (self.second, index >= border, border)):
            if bool(inside.any()):
                out[inside] = part.take(index[inside] - start)
        return out


@dataclass(frozen=True, kw_only=True)
class Experience:
    """One training unit of a stream: what a strategy may see of it, so no test data and no future classes.

    Classes are numbered by the column that they have in the logits, 0 .. len(classes_seen) - 1, in order
    of arrival; class_ids gives their names outside, in the order of `classes`.
    """

    index: int
    classes: tuple[int, ...]  # of this experience
    new_classes: tuple[int, ...] = ()  # of them, those never met before
    previous_classes: tuple[int, ...] = ()  # met before this experience
    classes_seen: tuple[int, ...] = ()  # ordered union, this experience included
    classes_by_task: dict[int, tuple[int, ...]] = field(default_factory=dict)  # task label -> its classes in here
    class_ids: tuple[int, ...] = ()
    train: Samples | None = None
    val: Samples | None = None
    transform: Any = None  # .train and .eval: stored batch -> model input; None = the stream's

    def __post_init__(self) -> None:
        # Experiences written by hand (tests, notebooks) may give the classes alone.
        if not self.new_classes:
            new = tuple(c for c in self.classes if c not in self.previous_classes)
            object.__setattr__(self, "new_classes", new)
        if not self.classes_seen:
            object.__setattr__(self, "classes_seen", tuple(dict.fromkeys(self.previous_classes + self.classes)))
        if not self.classes_by_task:
            object.__setattr__(self, "classes_by_task", {0: self.classes})
        if not self.class_ids:
            object.__setattr__(self, "class_ids", self.classes)

    @property
    def data(self) -> Samples:
        """The training samples; ValueError where the experience was made without any."""
        if self.train is None:
            raise ValueError(f"experience {self.index} has no training samples")
        return self.train


@dataclass(frozen=True, slots=True)
class Objective:
    """What one batch is trained on: the sum of `terms` (named scalars, in nats unless the term says otherwise).

    logits [B, K] of the incoming samples, or None where the phase trains something else.
    """

    terms: dict[str, Tensor]
    logits: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of gradient descent over `data`; None = the run's own setting.

    observe None = the strategy's; regularize None = only where observe is None.
    """

    name: str
    data: Samples
    epochs: int | None = None
    batch_size: int | None = None
    transform: Callable[[Tensor], Tensor] | None = None
    parameters: Sequence[dict[str, Any]] | None = None
    observe: Callable[[Batch], Objective] | None = None
    optimizer: Callable[..., torch.optim.Optimizer] | None = None
    scheduler: Callable[..., Any] | None = None
    regularize: bool | None = None
