"""Losses of generators, and of what is learned from generated samples."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def variational_bound(logits: Tensor, unit: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Reconstruction error plus KL(posterior || standard normal): minus the bound on log p(x).

    Kingma & Welling 2014, arXiv:1312.6114, Eq. 10. logits [B, P] of the reconstruction of unit [B, P] in [0, 1]; mean,
    log_variance [B, Z]. Returns a scalar in nats, summed over P and Z, mean over B.
    """
    error = functional.binary_cross_entropy_with_logits(logits, unit, reduction="sum")
    divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
    return (error + divergence) / len(unit)


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Cross-entropy with a teacher's softened probabilities, 0 for classes that it did not know; times T squared.

    van de Ven & Tolias 2018, arXiv:1809.10635, Eq. 3. student [B, K], teacher [B, K'], K' <= K, logits of the first K'
    classes. Returns a scalar in nats, mean over B.
    """
    target = functional.softmax(teacher.to(student.dtype) / temperature, 1)
    target = functional.pad(target, (0, student.shape[1] - teacher.shape[1]))
    return functional.cross_entropy(student / temperature, target) * temperature**2
