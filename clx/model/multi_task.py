"""A single-head network with a head for each task instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from clx.model.dynamic import MultiTaskModule, needs_task_labels
from clx.model.head.multi_head import MultiHeadClassifier


class MultiTask(MultiTaskModule):
    """What as_multitask gives: the backbone `model`, and its MultiHeadClassifier under the classifier's own name.

    A batch of several tasks goes through the backbone once. Attributes that this wrapper does not have are
    read from the wrapped model, and set there.
    """

    def __init__(self, model: nn.Module, classifier_name: str) -> None:
        super().__init__()
        if needs_task_labels(model):
            raise ValueError("model: it has a MultiTaskModule already; as_multitask takes a single-head model")
        linear = _take_off(model, classifier_name)
        heads = MultiHeadClassifier(linear.in_features, initial_out_features=linear.out_features)
        heads.classifiers["0"] = linear
        heads.to(linear.weight.device, linear.weight.dtype)
        self.classifier_name = classifier_name
        self.feature_dim = linear.in_features
        self.add_module(classifier_name, heads)
        self.model = model

    def features(self, x: Tensor) -> Tensor:
        """x [B, ...] -> features [B, feature_dim] of the backbone."""
        return self.model(x).flatten(1)

    def classify(self, features: Tensor, task_labels: int | Sequence[int] | Tensor | None = None) -> Any:
        """features [B, feature_dim] -> logits [B, K]; a dictionary by task for None."""
        return getattr(self, self.classifier_name)(features, task_labels)

    def forward(self, x: Tensor, task_labels: int | Sequence[int] | Tensor | None = None) -> Any:
        return self.classify(self.features(x), task_labels)

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        return self.classify(self.features(x), task_label)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":  # not there yet: copying makes an empty object first
                raise
            return getattr(self.model, name)

    def __setattr__(self, name: str, value: Any) -> None:
        own = (self.__dict__.get(kind, {}) for kind in ("_modules", "_parameters", "_buffers"))
        known = name in self.__dict__ or hasattr(type(self), name) or any(name in names for names in own)
        if known or "model" not in self.__dict__.get("_modules", {}):
            super().__setattr__(name, value)
        else:
            setattr(self.model, name, value)


def _take_off(model: nn.Module, name: str) -> nn.Linear:
    """The Linear under that name, out of the model: its features go through in its place."""
    classifier = dict(model.named_children()).get(name)
    if isinstance(classifier, nn.Linear):
        setattr(model, name, nn.Identity())
        return classifier
    if isinstance(classifier, nn.Sequential) and len(classifier) and isinstance(classifier[-1], nn.Linear):
        linear = classifier[-1]
        del classifier[-1]
        return linear
    if classifier is None:
        children = ", ".join(n for n, _ in model.named_children())
        raise ValueError(f"classifier_name {name!r}: the model has no such child; it has {children}")
    raise ValueError(
        f"classifier_name {name!r}: {type(classifier).__name__} is no Linear and no Sequential that ends in one"
    )
