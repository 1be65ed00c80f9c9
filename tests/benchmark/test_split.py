"""How a stream splits the classes of a data set; nothing is read for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from clx.benchmark.split import Split
from clx.data.dataset import Arrays, DataSet


class Unread(DataSet):
    """Ten classes of 1x3 images; fails when it is read."""

    name = "unread"
    shape = (1, 1, 3)
    num_classes = 10
    mean = (0.0,)
    std = (1.0,)

    def load(self, root: Path) -> tuple[Arrays, Arrays]:
        raise RuntimeError("read")


def split(**keys: Any) -> Split:
    return Split(**{"data": Unread()} | keys)


@pytest.mark.parametrize(
    ("keys", "sizes"),
    [
        ({"num_experiences": 5}, [2, 2, 2, 2, 2]),
        ({"num_experiences": 3}, [3, 3, 4]),  # 10 = 3 * 3 + 1: the last gets the one
        ({"num_experiences": 4}, [2, 2, 3, 3]),  # 10 = 4 * 2 + 2: the last two get one each
        ({"num_experiences": 1}, [10]),
        ({"num_experiences": 10}, [1] * 10),
        ({"classes_per_experience": 4}, [4, 4, 2]),
        ({"classes_per_experience": 5, "num_experiences": 2}, [5, 5]),
        ({"init_classes": 4, "classes_per_experience": 2}, [4, 2, 2, 2]),
        ({"init_classes": 4, "classes_per_experience": 2, "num_experiences": 4}, [4, 2, 2, 2]),
        ({"init_classes": 3, "num_experiences": 4}, [3, 2, 2, 3]),  # 7 = 3 * 2 + 1
        ({"init_classes": 10, "num_experiences": 1}, [10]),
        ({"init_classes": 10, "classes_per_experience": 2}, [10]),
    ],
)
def test_sizes(keys: dict[str, int], sizes: list[int]) -> None:
    benchmark = split(**keys)
    assert [len(group) for group in benchmark.groups] == sizes
    assert [c for group in benchmark.groups for c in group] == list(range(10))
    assert [len(classes) for classes in benchmark.train.classes] == sizes
    assert [len(classes) for classes in benchmark.test.classes] == sizes


def test_class_order() -> None:
    order = [7, 2, 9, 0, 1, 8, 3, 6, 5, 4]
    benchmark = split(num_experiences=5, class_order=order)
    assert benchmark.groups == [(7, 2), (9, 0), (1, 8), (3, 6), (5, 4)]


def test_shuffle_depends_on_order_seed_alone() -> None:
    def order(seed: int, torch_seed: int) -> list[int]:
        torch.manual_seed(torch_seed)
        return [c for group in split(num_experiences=5, shuffle=True, order_seed=seed).groups for c in group]

    assert order(0, 1) == order(0, 2)
    assert order(0, 1) != order(1, 1)
    assert sorted(order(0, 1)) == list(range(10))
    assert order(0, 1) != list(range(10))


@pytest.mark.parametrize(
    "keys",
    [
        {"num_experiences": 0},
        {"num_experiences": None},
        {"num_experiences": 11},
        {"num_experiences": 3, "classes_per_experience": 2},  # makes 5
        {"num_experiences": 8, "init_classes": 4},  # 7 more with 6 classes
        {"num_experiences": 1, "init_classes": 4},  # leaves 6
        {"classes_per_experience": 0},
        {"init_classes": 0},
        {"init_classes": 11},
        {"samples_per_class": 0},
        {"test_samples_per_class": 0},
        {"validation_fraction": 1.0},
        {"validation_fraction": -0.1},
        {"class_order": [0, 1, 2, 3, 4, 5, 6, 7, 8, 8]},
        {"class_order": [0, 1, 2, 3, 4, 5, 6, 7, 8]},
        {"class_order": [*range(10), 10]},
        {"class_order": [-1, *range(10)]},
        {"class_order": list(range(10)), "shuffle": True},
        {"task_labels": [0, 1]},
        {"task_labels": []},
        {"task_labels": [0, 1, 2, 3, -1]},
        {"image_size": 2},
        {"channels": 0},
    ],
)
def test_keys_that_do_not_fit(keys: dict[str, Any]) -> None:
    """The message starts with the key, the first one of each case, and nothing is read."""
    with pytest.raises(ValueError, match=f"^{next(iter(keys))} "):
        split(**{"num_experiences": 5} | keys)
