"""Learning to prompt."""

from __future__ import annotations

from torch import Tensor

from clx.buffer.base import Buffer
from clx.loss.prompt import pull
from clx.model.base import Model
from clx.model.prompt import PromptPool
from clx.model.vit import Prompt, ViT
from clx.strategy.prompting import Prompting


class L2P(Prompting):
    """A pool of prompts for a frozen vision transformer; each image takes those whose keys are nearest to it.

    Wang et al. 2022, arXiv:2112.08654, Eq. 3-5. M -> M, prompts of the pool; L_p -> L_p, tokens of each; N -> N, those
    taken by an image; lambda -> lamda, weight of the cosine distance between chosen keys and query. Logits of other
    experiences' classes take no part in training, as in the authors' code. There is no setting at which it is
    finetune: the network is frozen.
    Differs from the paper: prompts are chosen sample by sample in evaluation, where the authors' code gives a batch
    its most frequent ones, which tells the task if batches come task by task; no frequency of use is counted when
    they are chosen (its optional diversification). lamda 0.1 is of the PyTorch port, the authors' code has 1.0: keys
    alone feel it, and Adam takes no notice of its size.
    """

    def __init__(
        self,
        model: Model,
        buffer: Buffer | None = None,
        *,
        M: int,  # noqa: N803 - the paper's name
        L_p: int,  # noqa: N803 - the paper's name
        N: int,  # noqa: N803 - the paper's name
        lamda: float,
    ) -> None:
        super().__init__(model, buffer)
        if not 1 <= N <= M:
            raise ValueError(f"N {N} is outside 1..{M}, the prompts of the pool (strategy.M)")
        if L_p < 1:
            raise ValueError(f"L_p {L_p} < 1; it counts the tokens of a prompt")
        if lamda < 0:
            raise ValueError(f"lamda {lamda} < 0; 0 leaves the keys where they start")
        self.lamda = lamda
        if isinstance(model, ViT):
            model.insert(PromptPool(model.feature_dim, M=M, L_p=L_p, N=N))

    def penalty(self, prompt: Prompt) -> dict[str, Tensor]:
        assert prompt.match is not None
        return {"pull": self.lamda * pull(prompt.match)}
