"""Cross-entropy and distillation, weighed against each other by how many classes each speaks for."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from clx.loss.distillation import distillation


def shared_by_classes(
    logits: Tensor, y: Tensor, teacher: Tensor | None, num_old: int, temperature: float
) -> dict[str, Tensor]:
    """(1 - r) cross-entropy over all K classes and r KL(teacher || logits) over the old ones, r = num_old / K.

    Wu et al. 2019, arXiv:1905.13260, Sec. 3 (BiC); Zhao et al. 2020, arXiv:1911.07053, Sec. 3 (WA). logits [B, K]; y
    [B] classes; teacher [B, num_old or more], or None: r is 0 then. Both are softened by the temperature; there is no
    factor of its square, as in the papers. Returns the two terms by name, in nats, means over B: the papers write the
    second as a cross-entropy, which is larger by the teacher's entropy and has the same gradient.
    """
    ce = cross_entropy(logits, y)
    if teacher is None:
        return {"ce": ce}
    old = num_old / logits.shape[1]
    kept = distillation(logits[:, :num_old], teacher[:, :num_old], temperature) / temperature**2
    return {"ce": (1 - old) * ce, "distillation": old * kept}
