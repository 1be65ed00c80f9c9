"""The last samples of every class."""

from __future__ import annotations

from clx.buffer.balanced import BalancedBuffer


class Ring(BalancedBuffer):
    """First in, first out: a new sample takes the place of the oldest one of the largest class.

    With equal classes each keeps its last capacity / classes samples: the ring of Lopez-Paz & Ranzato 2017,
    arXiv:1706.08840, with the class in the place of the task and no need to know how many there will be.
    """

    def replace(self, label: int, uniform: float) -> int | None:
        largest, own = self.members[self.largest()], self.members.get(label, [])
        victim = own if len(own) >= len(largest) else largest
        return victim.pop(0)
