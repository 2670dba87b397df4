"""What a language model learns from prompts: their answers."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from tongtu.nn.batch import Batch
from tongtu.nn.sequence import SequenceModel
from tongtu.tuning.examples import TextBatch
from tongtu.tuning.network import LanguageNet


class Answer:
    """An `Objective`: full cross entropy of each token of the answer, none of the prompt."""

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        """See `Objective`; the examples are marked already."""
        return batch

    def loss(self, net: SequenceModel | LanguageNet, batch: Batch, draw: torch.Generator) -> Tensor:
        """See `Objective`."""
        return cast(LanguageNet, net).loss(cast(TextBatch, batch))
