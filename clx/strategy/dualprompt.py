"""DualPrompt."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from clx.buffer.base import Buffer
from clx.loss.prompt import pull
from clx.model.base import Model
from clx.model.prompt import DualPrompts
from clx.model.vit import Prompt, ViT, check_layers
from clx.strategy.prompting import Prompting


class DualPrompt(Prompting):
    """Prefixes in a frozen vision transformer: G-prompts for all images, and an E-prompt for each experience, which
    an image finds by its key.

    Wang et al. 2022, arXiv:2204.04799, Eq. 2-6, prefix tuning. L_g -> L_g and L_e -> L_e, keys and as many values that
    a prompt adds to a layer; start_g..end_g -> g_layers and start_e..end_e -> e_layers; lambda -> lamda, weight of the
    cosine distance between key and query. An image of the training set gets the E-prompt of its own experience. There
    is no setting at which it is finetune: the network is frozen; at L_g = L_e = 0 it is a linear probe.
    Differs from the paper: prefixes join keys and values after their projection, and are not halved into the two, as in
    the authors' code; a new E-prompt starts at random, whatever came before.
    """

    def __init__(
        self,
        model: Model,
        buffer: Buffer | None = None,
        *,
        g_layers: Sequence[int],
        e_layers: Sequence[int],
        L_g: int,  # noqa: N803 - the paper's name
        L_e: int,  # noqa: N803 - the paper's name
        lamda: float,
    ) -> None:
        super().__init__(model, buffer)
        for name, value in (("L_g", L_g), ("L_e", L_e), ("lamda", lamda)):
            if value < 0:
                raise ValueError(f"{name} {value} < 0; 0 switches it off")
        if set(g_layers) & set(e_layers):
            raise ValueError(f"e_layers {list(e_layers)}: a layer has one kind of prompt; leave out those of g_layers")
        self.lamda = lamda
        if isinstance(model, ViT):
            check_layers("g_layers", g_layers, len(model.blocks))
            check_layers("e_layers", e_layers, len(model.blocks))
            model.insert(DualPrompts(model.feature_dim, g_layers=g_layers, e_layers=e_layers, L_g=L_g, L_e=L_e))

    def penalty(self, prompt: Prompt) -> dict[str, Tensor]:
        assert prompt.match is not None
        return {"pull": self.lamda * pull(prompt.match)}
