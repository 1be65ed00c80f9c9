"""Losses that hold a student to what its teacher says."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of softened class scores, times temperature squared.

    Hinton et al. 2015, arXiv:1503.02531, Sec. 2.1.
    student, teacher: [B, K] logits of the same K classes. Returns a scalar in nats, mean over B.
    Raises ValueError if the shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)}: give the same classes")
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, 1),
        functional.log_softmax(teacher / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


def sigmoid_distillation(student: Tensor, target: Tensor, teacher: Tensor | None) -> Tensor:
    """Binary cross-entropy of every class, the teacher's probabilities being the targets of its classes.

    Rebuffi et al. 2017, arXiv:1611.07725, Algorithm 3. student [B, K] logits; target [B] classes; teacher
    [B, K_old] logits of the first K_old classes, or None for one-hot targets alone.
    Returns a scalar in nats, summed over the K classes, mean over B.
    """
    truth = functional.one_hot(target, student.shape[1]).to(student.dtype)
    if teacher is not None:
        truth = torch.cat((teacher.to(student.dtype).sigmoid(), truth[:, teacher.shape[1] :]), 1)
    return functional.binary_cross_entropy_with_logits(student, truth, reduction="sum") / len(student)


def feature_distance(features: Tensor, teacher: Tensor) -> Tensor:
    """Half the squared Euclidean distance between a model's features and its teacher's.

    Jung et al. 2016, arXiv:1607.00122; as the hint loss of Romero et al. 2015, arXiv:1412.6550, Eq. 3.
    features, teacher: [B, D]. Returns a scalar, summed over D, mean over B.
    """
    return functional.mse_loss(features, teacher, reduction="sum") / (2 * len(features))
