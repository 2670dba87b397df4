"""Settings of semantic ids."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tongtu.config import configuration

Kind = Literal["rkmeans", "rqvae", "opq"]
Repair = Literal["extra", "balanced", "none"]


@configuration
class RQVAEConfig:
    """Settings of the RQ-VAE.

    Attributes:
        hidden: Widths of the encoder's layers; the decoder has them the other way round.
        latent: Numbers in the vector that is quantised.
        beta: Weight of the commitment of vectors to their codes.
        epochs: Rounds through the catalogue.
        batch: Items in a step.
        learning_rate: Of AdamW; it falls to nothing along a cosine.
        weight_decay: Of AdamW.
        revive: After so many epochs without an item a code moves to an item's vector; 0 leaves it.
        sinkhorn: Sharpness of the even assignment on the last level while learning, smaller is sharper; 0 takes the nearest code.
        checks: How many times the collision rate is looked at in the second half of the epochs; the best network is kept.
        align: Weight of the likeness of an item's codes to its collaborative vector (LETTER); needs such vectors.
        diversity: Weight of keeping the codes of a level spread out evenly (LETTER).
        temperature: Cosines of these two are divided by this.
        device: cpu or cuda; the best there is if left out.
    """

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (512, 256, 128)
    latent: int = Field(32, ge=1)
    beta: float = Field(0.25, ge=0)
    epochs: int = Field(200, ge=1)
    batch: int = Field(1024, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    revive: int = Field(2, ge=0)
    sinkhorn: float = Field(0.003, ge=0)
    checks: int = Field(10, ge=1)
    align: float = Field(0.0, ge=0)
    diversity: float = Field(0.0, ge=0)
    temperature: float = Field(0.1, gt=0)
    device: str | None = None


@configuration
class SemanticConfig:
    """Settings of semantic ids.

    Attributes:
        kind: The quantiser: residual k-means, an RQ-VAE, or optimised product quantisation.
        levels: Codes of an item, before repair.
        size: Codes to choose from at each level.
        repair: What keeps the ids of two items apart: one "extra" level that numbers the items of equal codes, a "balanced" assignment,
            which gives an item the nearest code that is still free, or "none".
        iterations: Of k-means, at each level.
        seed: Of all that is drawn; None takes the one that is given to `SemanticIds.fit`.
        rqvae: Settings of the RQ-VAE.
    """

    kind: Kind = "rkmeans"
    levels: int = Field(3, ge=1, le=64)
    size: int = Field(256, ge=2, le=65_536)
    repair: Repair = "extra"
    iterations: int = Field(25, ge=1)
    seed: int | None = Field(None, ge=0)
    rqvae: RQVAEConfig = Field(default_factory=RQVAEConfig)

    def __post_init__(self) -> None:
        if self.kind != "rqvae" and (self.rqvae.align or self.rqvae.diversity):
            raise ValueError('rqvae.align and rqvae.diversity are for kind "rqvae" alone')
