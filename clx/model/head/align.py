"""Rows of a linear head brought to one length."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def align_rows(rows: Tensor, num_old: int) -> None:
    """Scale the new rows in place by gamma = mean length of the old ones / mean length of the new ones.

    Zhao et al. 2020 (WA), arXiv:1911.07053, Sec. 4. rows [K, D], of which the first num_old are old. Left as they are
    where there is no old or no new row, or all new ones are 0.
    """
    old, new = rows[:num_old].norm(dim=1), rows[num_old:].norm(dim=1)
    if len(old) and len(new):
        length = new.mean()
        rows[num_old:] *= torch.where(length > 0, old.mean() / length, 1.0)
