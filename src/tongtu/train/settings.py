"""How a network is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tongtu.config import configuration


@configuration
class Training:
    """Settings of the training loop.

    Attributes:
        epochs: At most, or exactly where there is nothing to validate on.
        patience: Validations without a better NDCG@10 before training stops.
        validate_every: Epochs between validations.
        tokens: Events in a batch, padding included; sequences of one length go together.
        accumulate: Batches whose gradients are added before each step.
        learning_rate, weight_decay, betas: Of AdamW.
        warmup_steps: Steps over which the learning rate rises.
        schedule: What it does afterwards, down to zero at the last epoch.
        clip: Largest norm of the gradient, or None.
        average: Decay of a moving average of the weights, which is then what is validated and kept; None for none.
        precision: "bf16" runs the network under automatic mixed precision.
        checkpoint_seconds: Time between checkpoints, where a folder for them is given.
    """

    epochs: Annotated[int, Field(ge=1)] = 100
    patience: Annotated[int, Field(ge=1)] = 10
    validate_every: Annotated[int, Field(ge=1)] = 1
    tokens: Annotated[int, Field(ge=1)] = 2048
    accumulate: Annotated[int, Field(ge=1)] = 1
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    clip: Annotated[float, Field(gt=0)] | None = None
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
