"""Claim: on the same vectors, with the same levels and sizes, our residual k-means keeps as much and lets as few items collide as its peers.

    python benchmarks/semantic_ids.py data/beauty-text --threads 1

In one run, on the vectors of one catalogue's texts: residual k-means, RQ-VAE and optimised product quantisation of ours; faiss' ResidualQuantizer,
greedy and with its beam of five, and its OPQMatrix with a ProductQuantizer; and, where `vector-quantize-pytorch` is installed, its ResidualVQ, trained
by moving averages on the same scaled vectors for as many epochs as our RQ-VAE. For each: collision rate and items that share an id before repair, codes
used and perplexity of each level, share of the variance lost, and seconds of fitting and of encoding. For ours also what both kinds of repair cost.
Writes `results/semantic_ids_NAME.json`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _record import write

from tongtu.config import build
from tongtu.data.public import load
from tongtu.semantic.codebooks import Projection, Quantiser
from tongtu.semantic.fitting import fit_quantiser
from tongtu.semantic.ids import SemanticIds
from tongtu.semantic.quality import collision_rate, level_use, lost_share, shared_rate
from tongtu.semantic.settings import SemanticConfig
from tongtu.text.encoder import open_encoder
from tongtu.text.vectors import text_vectors

Fitted = tuple[np.ndarray, np.ndarray, float, float]
"""Codes, restored vectors, seconds of fitting, seconds of encoding."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a data set with item texts")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=200, help="of the RQ-VAE and of ResidualVQ")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", help="names of rows, where not all are wanted")
    options = parser.parse_args()
    limit_threads(options.threads)
    data = load(options.data)
    vectors = text_vectors(open_encoder(options.encoder), data.item_text)
    vectors = np.ascontiguousarray(vectors[vectors.any(axis=1)])
    ways: dict[str, Callable[[], Fitted | None]] = {
        **{f"ours, {kind}": lambda kind=kind: ours(vectors, settings(options, kind)) for kind in ("rkmeans", "rqvae", "opq")},
        "faiss ResidualQuantizer, greedy": lambda: faiss_residual(vectors, options, 1),
        "faiss ResidualQuantizer, beam 5": lambda: faiss_residual(vectors, options, 5),
        "faiss OPQ and ProductQuantizer": lambda: faiss_product(vectors, options),
        "vector-quantize-pytorch ResidualVQ": lambda: residual_vq(vectors, options),
    }
    rows = []
    for name, way in ways.items():
        if options.only and name not in options.only:
            continue
        rows.append({"quantiser": name, **measured(vectors, way(), (options.size,) * options.levels)})
        print(line(rows[-1]), flush=True)
    facts = {key: getattr(options, key) for key in ("encoder", "levels", "size", "epochs", "threads")}
    facts |= {"data": data.name, "items": len(vectors), "width": vectors.shape[1]}
    repaired = [repair(vectors, settings(options, "rkmeans", repair=kind)) for kind in ("extra", "balanced")] if not options.only else []
    packages = ("numpy", "torch", "faiss-cpu", "vector-quantize-pytorch")
    write(f"semantic_ids_{data.name}", {"claim": (__doc__ or "").split("\n", 1)[0], **facts, "rows": rows, "repair": repaired}, packages)
    columns = ("quantiser", "collision rate", "items sharing", "codes used", "perplexity by level", "variance lost", "fit, s", "encode, s")
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    print("\n".join(map(line, rows)))
    for one in repaired:
        print(f"repair {one['repair']}: collision rate {one['collision rate']:.4f}, {one['moved']:.1%} of the items moved, {one['lost']:.4f} lost")


def settings(options: argparse.Namespace, kind: str, **further: Any) -> SemanticConfig:
    rqvae = {"epochs": options.epochs, "device": "cpu"}
    return build(SemanticConfig, {"kind": kind, "levels": options.levels, "size": options.size, "rqvae": rqvae, **further})


def ours(vectors: np.ndarray, config: SemanticConfig) -> Fitted:
    started = time.perf_counter()
    quantiser: Quantiser = fit_quantiser(vectors, config, 0, None, True)[0]
    fitted = time.perf_counter()
    codes = quantiser.codes(quantiser.projection(vectors))
    done = time.perf_counter()
    return codes, quantiser.projection.back(quantiser.decoded(codes)), fitted - started, done - fitted


def faiss_residual(vectors: np.ndarray, options: argparse.Namespace, beam: int) -> Fitted:
    import faiss

    made = faiss.ResidualQuantizer(vectors.shape[1], options.levels, bits(options.size))
    made.max_beam_size = beam
    return by_faiss(made, vectors, options)


def faiss_product(vectors: np.ndarray, options: argparse.Namespace) -> Fitted:
    import faiss

    width = vectors.shape[1] // options.levels * options.levels
    turn, made = faiss.OPQMatrix(vectors.shape[1], options.levels, width), faiss.ProductQuantizer(width, options.levels, bits(options.size))
    turn.pq = faiss.ProductQuantizer(width, options.levels, bits(options.size))  # what it turns for; its own would have 256 codes a level
    started = time.perf_counter()
    turn.train(vectors)
    turned = turn.apply(vectors)
    codes, restored, _, encoded = by_faiss(made, turned, options)
    return codes, turn.reverse_transform(restored), time.perf_counter() - started - encoded, encoded


def by_faiss(made: Any, vectors: np.ndarray, options: argparse.Namespace) -> Fitted:
    """What a quantiser of faiss makes of vectors; its codes are unpacked from bits."""
    import faiss

    started = time.perf_counter()
    made.train(vectors)
    fitted = time.perf_counter()
    packed = made.compute_codes(vectors)
    done = time.perf_counter()
    codes = np.zeros((len(vectors), options.levels), np.int32)
    for row, one in enumerate(packed):
        reader = faiss.BitstringReader(faiss.swig_ptr(one), packed.shape[1])
        codes[row] = [reader.read(bits(options.size)) for _ in range(options.levels)]
    return codes, made.decode(packed), fitted - started, done - fitted


def residual_vq(vectors: np.ndarray, options: argparse.Namespace) -> Fitted | None:
    try:
        from vector_quantize_pytorch import ResidualVQ
    except ImportError:
        return None
    torch.manual_seed(0)
    scale = Projection.scaling(vectors)
    x = torch.from_numpy(scale.scaled(vectors))
    made = ResidualVQ(dim=x.shape[1], num_quantizers=options.levels, codebook_size=options.size, kmeans_init=True, kmeans_iters=10, threshold_ema_dead_code=2)
    draw = torch.Generator().manual_seed(0)
    started = time.perf_counter()
    made.train()
    with torch.no_grad():  # its books move by averages, without gradients
        for _ in range(options.epochs):
            for rows in torch.randperm(len(x), generator=draw).split(1024):
                made(x[rows][None])
    fitted = time.perf_counter()
    made.eval()
    with torch.no_grad():
        restored, codes, _ = made(x[None])
    done = time.perf_counter()
    return codes[0].numpy().astype(np.int32), scale.back(restored[0].numpy()), fitted - started, done - fitted


def measured(vectors: np.ndarray, found: Fitted | None, sizes: tuple[int, ...]) -> dict[str, Any]:
    if found is None:
        return {"skipped": "not installed"}
    codes, restored, fitted, encoded = found
    use = level_use(codes, sizes)
    return {
        "collision rate": collision_rate(codes),
        "sharing": shared_rate(codes),
        "used": [level.used for level in use],
        "perplexity": [level.perplexity for level in use],
        "lost": lost_share(vectors, restored),
        "fit seconds": fitted,
        "encode seconds": encoded,
    }


def repair(vectors: np.ndarray, config: SemanticConfig) -> dict[str, Any]:
    ids = SemanticIds.fit(np.concatenate([np.zeros((1, vectors.shape[1]), np.float32), vectors]), config, 0)
    moved, lost = ids.facts["moved by repair"], ids.facts["lost"]
    return {"repair": config.repair, "sizes": list(ids.sizes), "collision rate": ids.collision_rate(), "moved": moved, "lost": lost}


def line(row: dict[str, Any]) -> str:
    if "skipped" in row:
        return f"| {row['quantiser']} | {row['skipped']} | | | | | | |"
    used, perplexity = f"{np.mean(row['used']):.1%}", ", ".join(f"{value:.0f}" for value in row["perplexity"])
    seconds = f"{row['fit seconds']:.1f} | {row['encode seconds']:.2f}"
    return f"| {row['quantiser']} | {row['collision rate']:.4f} | {row['sharing']:.1%} | {used} | {perplexity} | {row['lost']:.4f} | {seconds} |"


def bits(size: int) -> int:
    found = size.bit_length() - 1
    if 2**found != size:
        raise SystemExit("faiss counts codes in bits: --size must be a power of two")
    return found


def limit_threads(threads: int) -> None:
    import faiss

    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)


if __name__ == "__main__":
    main()
