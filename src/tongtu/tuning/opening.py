"""A network to be tuned, from a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tongtu.errors import ConfigError, MissingExtra
from tongtu.pretrained import fingerprint, open_pretrained, settings_of
from tongtu.tuning.network import LanguageNet
from tongtu.tuning.rows import extend
from tongtu.tuning.scratch import TABLE_RATE, new_llama, new_t5, word_table
from tongtu.tuning.settings import CAUSAL_SCRATCH, SCRATCH, Tuning
from tongtu.tuning.tokenizer import MOST_WORDS, Wording, train_tokenizer


def open_network(settings: Tuning, texts: Sequence[str] = (), new_tokens: Sequence[str] = (), seed: int = 0) -> LanguageNet:
    """A network ready to be trained; what does not learn needs no gradient.

    Args:
        settings: Which, and how much of it learns.
        texts: What a tokenizer is trained on where the model starts from nothing: prompts and answers as they will be written.
        new_tokens: Tokens to add whole, all different (an item's own token, say); each has a vector that learns.
        seed: Of whatever is random at the start.

    Raises:
        ConfigError: If there is no such model, or the settings do not go with it.
        MissingExtra: If low-rank updates are wanted and peft is absent.
    """
    if settings.model in SCRATCH:
        tokenizer = train_tokenizer(texts, settings.vocabulary)
        _add_tokens(tokenizer, new_tokens, settings.model)
        new = new_llama if settings.model in CAUSAL_SCRATCH else new_t5
        opened = wrapped(new(settings.model, len(tokenizer), seed), tokenizer, settings, seed)
        if opened.seq2seq:
            opened.rate_factors = {"net.shared.": TABLE_RATE}
    else:
        net, tokenizer = _pretrained(settings)
        base = "" if settings.weights == "all" else fingerprint(net, tokenizer, settings_of(net.config))
        first = _add_tokens(tokenizer, new_tokens, settings.model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _prepare(net, settings, first, len(new_tokens))
        opened = wrapped(net, tokenizer, settings, seed)
        opened.base, opened.new_tokens = base, tuple(new_tokens)
    if not any(parameter.requires_grad for parameter in opened.parameters()):
        raise ConfigError("weights = 'new' trains the rows of new tokens, and there are none: choose an index with tokens of its own, 'lora' or 'all'")
    return opened


def wrapped(net: Any, tokenizer: Any, settings: Tuning, seed: int) -> LanguageNet:
    """A model of transformers that has all its tokens and adapters already, as a network of the training loop."""
    encoder = bool(net.config.is_encoder_decoder)
    if settings.whole_word and not encoder:
        raise ConfigError(f"{settings.model} has no encoder to tell of whole words: whole_word = false")
    word = None
    if encoder and settings.whole_word is not False:
        word = word_table(MOST_WORDS, net.config.d_model, seed, **({} if settings.model in SCRATCH else {"spread": 0.0}))
    end = net.generation_config.eos_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    if isinstance(end, list):
        end = end[0]
    if end is None:
        raise ConfigError(f"{settings.model} has no token that ends a text: choose another model")
    if settings.gradient_checkpointing:
        # both have one positional parameter that says how; transformers changed its name
        getattr(net, "activation_checkpointing_enable", net.gradient_checkpointing_enable)({"use_reentrant": False})
    opened = LanguageNet(net, Wording(tokenizer, encoder, settings.max_prompt, settings.max_target, end), word)
    _check_logits(opened, settings.model)
    return opened.train()


def _pretrained(settings: Tuning) -> tuple[Any, Any]:
    """A network, which needs no gradient, and a fast tokenizer."""
    model: str | Path = settings.model.removeprefix("hf:")
    if settings.model == "smollm2":
        from tongtu.llm.smollm2 import smollm2_folder

        model = smollm2_folder()
    net, tokenizer = open_pretrained(model, causal=True, encoder=True)
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(f"{settings.model} has no tokenizer.json: convert its tokenizer, or choose another model")
    if net.config.is_encoder_decoder and not (hasattr(net, "encoder") and hasattr(net, "decoder") and hasattr(net.config, "d_model")):
        raise ConfigError(f"{settings.model} is an encoder-decoder of another kind than T5: choose one of T5's kind, or a causal model")
    return net, tokenizer


def _add_tokens(tokenizer: Any, new_tokens: Sequence[str], model: str) -> int:
    """Add tokens to a tokenizer and return the number of the first."""
    from tokenizers import AddedToken

    first = len(tokenizer)
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in new_tokens])
    if len(tokenizer) - first != len(new_tokens):
        raise ConfigError(f"{first + len(new_tokens) - len(tokenizer)} of {len(new_tokens)} new tokens are twice there or known to {model}: rename them")
    return first


def _prepare(net: Any, settings: Tuning, first: int, new: int) -> None:
    """Say what learns of a pretrained network, and add what it lacks."""
    if settings.weights == "lora":
        _add_lora(net, settings)
    elif settings.weights == "all":
        net.requires_grad_(True)
    if new:
        if first > net.get_input_embeddings().weight.shape[0]:
            raise ConfigError(f"the tokenizer of {settings.model} has more tokens than the model: choose another model, or no new tokens")
        extend(net, first, new)


def _add_lora(net: Any, settings: Tuning) -> None:
    try:
        import peft
    except ImportError:
        raise MissingExtra("tuning low-rank updates (weights = 'lora')", "llm") from None
    chosen = settings.lora
    kind: Any = peft.LoraConfig
    config = kind(r=chosen.rank, lora_alpha=chosen.alpha, lora_dropout=chosen.dropout, target_modules=list(chosen.targets) or "all-linear")
    try:
        peft.inject_adapter_in_model(config, net)
    except ValueError as error:
        raise ConfigError(f"no low-rank updates for {settings.model} ({' '.join(str(error).split())[:160]}): name other lora.targets") from None


@torch.no_grad()
def _check_logits(opened: LanguageNet, model: str) -> None:
    """The loss computes logits at few positions and by itself; a model that makes them in a way of its own is refused."""
    net = opened.net.eval()
    tokens = torch.tensor([[opened.end, 3, 5]], device=opened.device)
    if opened.seq2seq:
        seen = torch.ones_like(tokens)
        ours = opened.logits(opened._decode(tokens, opened.net.get_encoder()(input_ids=tokens).last_hidden_state, seen))
        theirs = net(input_ids=tokens, decoder_input_ids=tokens).logits
    else:
        ours, theirs = opened.logits(net.base_model(input_ids=tokens, use_cache=False).last_hidden_state), net(input_ids=tokens).logits
    if not torch.allclose(ours, theirs[..., : ours.shape[-1]], atol=1e-3):
        raise ConfigError(f"{model} computes its output layer in a way of its own: choose another model")
