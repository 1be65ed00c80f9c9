"""Streams that split the classes of a data set over the experiences."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from clx.benchmark.stream import Benchmark
from clx.runtime import seed as seeding


@dataclass(kw_only=True, eq=False)
class Split(Benchmark):
    """Each experience brings classes of its own: Split MNIST, Split CIFAR and their like.

    Sizes: num_experiences equal parts, or classes_per_experience at a time, after init_classes in the first
    experience; what does not divide goes to the last experiences. Scenarios as van de Ven & Tolias 2019
    (arXiv:1904.07734) define them; domain_incremental numbers the classes from 0 in each experience.
    """

    def partition(self) -> list[tuple[int, ...]]:
        order = self._order()
        groups, start = [], 0
        for size in self._sizes():
            groups.append(tuple(order[start : start + size]))
            start += size
        return groups

    def _order(self) -> list[int]:
        total = self.data.num_classes
        if self.class_order is not None:
            order = list(self.class_order)
            repeated = sorted({c for c in order if order.count(c) > 1})
            if repeated:
                raise ValueError(f"class_order repeats class {repeated[0]}; give each of 0..{total - 1} once")
            wrong = sorted(set(range(total)) ^ set(order))
            if wrong:
                problem = "lacks" if wrong[0] in range(total) else "has the unknown"
                raise ValueError(f"class_order {problem} class {wrong[0]}; give each of 0..{total - 1} once")
            if self.shuffle:
                raise ValueError("class_order and shuffle=true contradict each other; set one of them")
            return order
        if not self.shuffle:
            return list(range(total))
        draw = seeding.generator("class order", self.order_seed)
        return torch.randperm(total, generator=draw).tolist()

    def _sizes(self) -> list[int]:
        total = self.data.num_classes
        first = [] if self.init_classes is None else [self.init_classes]
        rest = total - sum(first)
        if rest < 0:
            raise ValueError(f"init_classes {self.init_classes} > {total} classes of {self.data.name}")
        step, count = self.classes_per_experience, self.num_experiences
        if step is None and count is None:
            raise ValueError("num_experiences and classes_per_experience are both null; set one of them")
        if step is not None:
            sizes = first + [min(step, rest - start) for start in range(0, rest, step)]
            if count is not None and len(sizes) != count:
                raise ValueError(
                    f"num_experiences {count} contradicts classes_per_experience {step}, which makes {len(sizes)} "
                    f"experiences of {total} classes; set one of them alone"
                )
            return sizes
        assert count is not None
        parts = count - len(first)
        if count > total or parts > rest:
            raise ValueError(
                f"num_experiences {count} > {total if not first else rest + 1}; {self.data.name} has "
                f"{total} classes{f', {first[0]} of them in the first experience' if first else ''}"
            )
        if parts == 0 and rest:
            raise ValueError(f"num_experiences 1 leaves {rest} classes beyond init_classes {self.init_classes}")
        larger = rest % parts if parts else 0
        return first + [rest // parts + (i >= parts - larger) for i in range(parts)]
