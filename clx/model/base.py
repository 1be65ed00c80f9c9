"""What every network of clx offers: features, a head as the child `classifier`, logits."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from clx.model.dynamic import MultiTaskModule


class Model(nn.Module):
    """A backbone and its head. Subclasses set `feature_dim` and `classifier`, and write `features`."""

    feature_dim: int
    classifier: nn.Module
    task_features = False  # whether features() needs the task labels too, as a second argument

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> features [B, feature_dim]."""

    def classify(self, features: Tensor, task_labels: Tensor | int | None = None) -> Tensor:
        """features [B, feature_dim] -> logits [B, K]; a multi-task head needs the labels, [B] or one for all."""
        if isinstance(self.classifier, MultiTaskModule):
            if task_labels is None:
                raise ValueError("task_labels None: this head needs the task label of each sample")
            return self.classifier(features, task_labels)
        return self.classifier(features)

    def forward(self, x: Tensor, task_labels: Tensor | int | None = None) -> Tensor:
        """x [B, C, H, W] -> logits [B, K]."""
        return self.classify(self.features(x), task_labels)
