"""A tuned network in a model folder: only what learned where the rest can be had by its name, else everything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy.typing as npt
import torch

from tongtu.errors import ModelError
from tongtu.hub import ModelFolder
from tongtu.tuning.network import LanguageNet
from tongtu.tuning.opening import open_network, wrapped
from tongtu.tuning.rows import ExtendedEmbedding, extend
from tongtu.tuning.settings import Tuning
from tongtu.tuning.tokenizer import fast_tokenizer

_PREFIX = "language."
_SIGNS = ("pad_token", "eos_token", "bos_token", "unk_token")


def arrays_of(net: LanguageNet) -> dict[str, npt.NDArray[Any]]:
    """The network's arrays for `tongtu.hub.save`, named "language.*"."""
    return {name: parameter.detach().float().cpu().numpy() for name, parameter in _kept(net)}


def texts_of(net: LanguageNet) -> dict[str, str]:
    """The network's text files for `tongtu.hub.save`: its tokenizer and what it is."""
    table = net.net.get_input_embeddings()
    extended = isinstance(table, ExtendedEmbedding)
    about = {
        "config": net.net.config.to_dict(),
        "signs": {sign: getattr(net.tokenizer, sign) for sign in _SIGNS if getattr(net.tokenizer, sign, None) is not None},
        "end": net.end,
        "base": net.base,
        "new_tokens": list(net.new_tokens),
        "old_tokens": [table.base.weight.shape[0], table.first] if extended else None,
        "before": net.wording.before,
    }
    return {"tokenizer.json": net.tokenizer.backend_tokenizer.to_str(), "network.json": json.dumps(about, indent=1, default=str) + "\n"}


def reopen(settings: Tuning, folder: ModelFolder) -> LanguageNet:
    """The network of a model folder, in evaluation mode. A model that was tuned in part is opened by its name again.

    Raises:
        ModelError: If what is there under that name is another model than the one that was tuned, or the folder lacks something.
        ConfigError: If there is nothing under that name.
    """
    about = json.loads(folder.texts["network.json"])
    net = _on_base(settings, about) if about["base"] else _whole(settings, about, folder.texts["tokenizer.json"])
    _load(net, folder.arrays, str(folder.path))
    net.new_tokens, net.wording.before = tuple(about["new_tokens"]), about["before"]
    return net.eval()


def _kept(net: LanguageNet) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((_PREFIX + name, parameter) for name, parameter in net.named_parameters() if parameter.requires_grad or not net.base)


def _on_base(settings: Tuning, about: Mapping[str, Any]) -> LanguageNet:
    net = open_network(settings, (), about["new_tokens"])
    if net.base != about["base"]:
        raise ModelError(
            f"this was tuned on {settings.model} with the hash {about['base'][:12]}, and what is there by that name now has {net.base[:12]}: "
            "bring back the model that was tuned, or fit again"
        )
    return net


def _whole(settings: Tuning, about: Mapping[str, Any], tokenizer: str) -> LanguageNet:
    import transformers

    told = dict(about["config"])
    auto: Any = transformers.AutoConfig
    config = auto.for_model(told.pop("model_type"), **told)
    kind: Any = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    if about["old_tokens"]:
        config.get_text_config().vocab_size = about["old_tokens"][0]
    with torch.random.fork_rng(devices=[]):
        net = kind.from_config(config, trust_remote_code=False, dtype=torch.float32)
        if about["old_tokens"]:
            extend(net, about["old_tokens"][1], len(about["new_tokens"]))
    net.generation_config.eos_token_id = about["end"]
    return wrapped(net, fast_tokenizer(tokenizer, about["signs"]), settings, seed=0)


def _load(net: LanguageNet, arrays: Mapping[str, npt.NDArray[Any]], where: str) -> None:
    """Write the arrays over the network's parameters."""
    kept = dict(_kept(net))
    foreign = kept.keys() ^ {name for name in arrays if name.startswith(_PREFIX)}
    if foreign or any(parameter.shape != arrays[name].shape for name, parameter in kept.items()):
        raise ModelError(f"{where} holds the weights of another language model than its network.json tells of: fit the model again")
    with torch.no_grad():
        for name, parameter in kept.items():
            parameter.copy_(torch.from_numpy(arrays[name]))
