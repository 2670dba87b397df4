"""Models of transformers, opened in one way: 32 bits, no gradients, weights from safetensors only, no code of the model's own, no noise."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tongtu.errors import ConfigError


def open_pretrained(model: str | Path, causal: bool = False) -> tuple[Any, Any]:
    """Network, in evaluation mode, and tokenizer of a folder or a name on the hub.

    Args:
        model: Which.
        causal: With a head that predicts the next token, else the bare encoder or decoder.

    Raises:
        ConfigError: If there is no such model.
    """
    import torch
    import transformers

    kind = transformers.AutoModelForCausalLM if causal else transformers.AutoModel
    try:
        with silence():
            tokenizer = transformers.AutoTokenizer.from_pretrained(model, trust_remote_code=False)
            net = kind.from_pretrained(model, trust_remote_code=False, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = "no such folder" if Path(model).is_absolute() and not Path(model).exists() else " ".join(str(error).split())[:160]
        raise ConfigError(f"no language model at {model} ({reason}): give a folder with config.json, safetensors and tokenizer.json, or a hub name") from None
    return net.eval().requires_grad_(False), tokenizer


@contextmanager
def silence() -> Iterator[None]:
    """The library tells of unused weights and draws a bar while it loads; a command's output is no place for that."""
    import transformers

    level, bar = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity(logging.CRITICAL)
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bar:
            transformers.logging.enable_progress_bar()  # type: ignore[no-untyped-call]
