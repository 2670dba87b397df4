"""Which language model is tuned, and how much of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tongtu.config import configuration

CAUSAL_SCRATCH = ("llama:tiny", "llama:small")
SCRATCH = ("t5:tiny", "t5:small", *CAUSAL_SCRATCH)


@configuration
class Lora:
    """Low-rank updates of the weights (Hu et al., ICLR 2022).

    Attributes:
        rank, alpha: Each update is `alpha / rank` times a product of two matrices of this rank.
        dropout: Of its input.
        targets: Names of the linear layers that get one; none for all but the output layer.
    """

    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    targets: tuple[str, ...] = ()


@configuration
class Tuning:
    """A language model that is tuned on behaviour.

    Attributes:
        model: "t5:tiny" or "t5:small", an encoder-decoder that starts from nothing with a tokenizer trained on the data's own texts;
            "llama:tiny" or "llama:small", a causal model that starts so; "smollm2"; or "hf:" and a folder or a name on the hub, a causal model or
            one of T5's kind.
        weights: What learns: "all"; "lora", low-rank updates beside the frozen weights; "new", only the rows of new tokens.
            With "lora" the rows of new tokens learn too.
        lora: Of "lora".
        vocabulary: Tokens of a tokenizer that is trained on the data's texts, 256 of them for bytes.
        max_prompt, max_target: Tokens. A longer prompt loses its beginning, a longer answer its end.
        whole_word: Whether the encoder is told which pieces make one word, as P5 is. None: where the model has an encoder.
        gradient_checkpointing: Spend a second pass forward to keep less in memory.
    """

    model: str = "t5:tiny"
    weights: Literal["all", "lora", "new"] = "all"
    lora: Lora = Lora()
    vocabulary: Annotated[int, Field(ge=400, le=100_000)] = 4_000
    max_prompt: Annotated[int, Field(ge=8, le=32_768)] = 512
    max_target: Annotated[int, Field(ge=2, le=4_096)] = 64
    whole_word: bool | None = None
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.model not in (*SCRATCH, "smollm2") and not (self.model.startswith("hf:") and self.model != "hf:"):
            raise ValueError(f"no model {self.model!r}: choose {', '.join(SCRATCH)}, smollm2, or hf: and a folder or a name on the hub")
        if self.model in SCRATCH and self.weights != "all":
            raise ValueError(f"{self.model} starts from nothing, so all its weights must learn: weights = 'all'")
        if self.model in ("smollm2", *CAUSAL_SCRATCH) and self.whole_word:
            raise ValueError(f"{self.model} has no encoder to tell of whole words: whole_word = false")
