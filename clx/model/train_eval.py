"""A net with one classifier to train with and another to answer with."""

from __future__ import annotations

from torch import Tensor, nn

from clx.model.base import Model


class TrainEvalModel(Model):
    """The features of `body`, then train_classifier in training mode and eval_classifier in eval mode.

    body: any module, inputs [B, ...] -> [B, ...], flattened to features [B, feature_dim]. Dynamic parts of all
    three are adapted as in every model. Gradients reach the classifier that answered: the other is for a strategy
    to fill (means, rescaled weights). A frozen copy is in eval mode, so a teacher answers with eval_classifier.
    """

    def __init__(
        self, body: nn.Module, train_classifier: nn.Module, eval_classifier: nn.Module, *, feature_dim: int
    ) -> None:
        super().__init__()
        self.body, self.feature_dim = body, feature_dim
        self.train_classifier, self.eval_classifier = train_classifier, eval_classifier

    @property
    def classifier(self) -> nn.Module:  # type: ignore[override]  # follows the mode, so nobody sets it
        """The one that answers in this mode."""
        return self.train_classifier if self.training else self.eval_classifier

    def features(self, x: Tensor) -> Tensor:
        return self.body(x).flatten(1)
