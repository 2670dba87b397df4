"""Models of transformers, opened in one way: 32 bits, no gradients, weights from safetensors only, no code of the model's own, no noise."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tongtu.errors import ConfigError


def open_pretrained(model: str | Path, causal: bool = False, encoder: bool = False) -> tuple[Any, Any]:
    """Network, in evaluation mode, and tokenizer of a folder or a name on the hub.

    Args:
        model: Which.
        causal: With a head that predicts the next token, else the bare encoder or decoder.
        encoder: With such a head, an encoder-decoder is welcome too.

    Raises:
        ConfigError: If there is no such model, or it is damaged.
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    kind: Any = transformers.AutoModelForCausalLM if causal else transformers.AutoModel
    try:
        with silence():
            if encoder and transformers.AutoConfig.from_pretrained(model, trust_remote_code=False).is_encoder_decoder:
                kind = transformers.AutoModelForSeq2SeqLM
            tokenizer = transformers.AutoTokenizer.from_pretrained(model, trust_remote_code=False)
            net, loading = kind.from_pretrained(model, trust_remote_code=False, use_safetensors=True, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        reason = "no such folder" if Path(model).is_absolute() and not Path(model).exists() else " ".join(str(error).split())[:160]
        raise ConfigError(f"no language model at {model} ({reason}): give a folder with config.json, safetensors and tokenizer.json, or a hub name") from None
    net.eval().requires_grad_(False)
    _without_chance(net, sorted(loading["missing_keys"]), model)
    return net, tokenizer


def _without_chance(net: Any, missing: list[str], model: str | Path) -> None:
    """The library draws weights that a checkpoint lacks at random: a pooler, which nothing here reads, becomes zeros, the lack of any other is refused."""
    needed = [name for name in missing if "pooler" not in name.split(".")]
    if needed:
        raise ConfigError(f"the language model at {model} lacks {len(needed)} of its weights ({needed[0]}, ...), it is damaged or foreign: fetch it again")
    for name in missing:
        net.get_parameter(name).zero_()


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


def settings_of(config: Any) -> str:
    """What config.json says otherwise than its kind's defaults: heads, activation and more that no weight tells of, the same under a later library."""
    usual = {} if getattr(config, "has_no_defaults_at_init", False) else type(config)().to_dict()
    noise = {"transformers_version", "_name_or_path", "architectures", "dtype"}
    said = {name: value for name, value in config.to_dict().items() if name not in noise and (name not in usual or usual[name] != value)}
    return json.dumps(said | {"model_type": config.model_type}, sort_keys=True, default=str)


def fingerprint(net: Any, tokenizer: Any, told: str) -> str:
    """SHA-256 over weights, tokenizer, and whatever else decides an answer."""
    import torch

    seen = hashlib.sha256(told.encode())
    seen.update(tokenizer.backend_tokenizer.to_str().encode() if getattr(tokenizer, "is_fast", False) else repr(sorted(tokenizer.get_vocab().items())).encode())
    for name, tensor in sorted(net.state_dict().items()):
        seen.update(name.encode())
        seen.update(tensor.contiguous().cpu().view(torch.uint8).numpy().data if tensor.dim() else tensor.cpu().numpy().tobytes())
    return seen.hexdigest()
