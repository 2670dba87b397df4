"""RQ-VAE: an autoencoder whose middle is a sum of codes, one from each level's book.

Papers: Zeghidour et al., "SoundStream" (2021); for items Rajput et al. (TIGER, NeurIPS 2023); the even assignment on the last level by Sinkhorn's
iterations Zheng et al. (LC-Rec, ICDE 2024); alignment and diversity Wang et al. (LETTER, CIKM 2024).

How ours differs: AdamW, since Adagrad at TIGER's rate collapses; the commitment of every level reaches the encoder; codes without items come back; of several
networks of the second half of the epochs the one with the fewest collisions is kept; likeness and diversity go by cosines; and collaborative
vectors may be of any width, since a matrix leads from the codes to them.

Shapes: B items of a step, D width of the vectors, Z of the codes, K codes of a level.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tongtu.errors import ConfigError
from tongtu.progress import progress
from tongtu.semantic.codebooks import Layers, Projection, Quantiser, Vectors
from tongtu.semantic.quality import collision_rate, lost_share
from tongtu.semantic.settings import SemanticConfig

_EVEN_ROUNDS = 50  # of Sinkhorn's iterations
_START_ROUNDS = 10  # of k-means before the first step
_CLUSTERS = 10  # of the codes of a level, for diversity


class _Net(nn.Module):
    """Encoder, books and decoder."""

    def __init__(self, width: int, size: int, config: SemanticConfig, collaborative: int, draw: torch.Generator) -> None:
        super().__init__()
        own = config.rqvae
        widths = [width, *own.hidden, own.latent]
        self.encoder, self.decoder = _layers(widths, draw), _layers(widths[::-1], draw)
        self.books = nn.ParameterList(nn.Parameter(torch.zeros(size, own.latent)) for _ in range(config.levels))
        self.to_collaborative = _layers([own.latent, collaborative], draw) if collaborative else None
        self.config = own

    def forward(self, x_BD: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The loss of autoencoder and books, the sum of the codes [B, Z] with the encoder's gradient, and each level's codes int64[B]."""
        z = self.encoder(x_BD)
        left, total, loss, codes = z, torch.zeros_like(z), z.new_zeros(()), []
        for level, book in enumerate(self.books):
            last = level == len(self.books) - 1
            code = self._code(left.detach(), book.detach(), last and self.config.sinkhorn > 0)
            chosen = book[code]
            loss = loss + functional.mse_loss(chosen, left.detach()) + self.config.beta * functional.mse_loss(left, chosen.detach())
            left, total = left - chosen.detach(), total + chosen
            codes.append(code)
        straight = z + (total - z).detach()
        return functional.mse_loss(self.decoder(straight), x_BD) + loss / len(self.books), z + total - z.detach(), codes

    def _code(self, left_BZ: Tensor, book_KZ: Tensor, even: bool) -> Tensor:
        distance = torch.cdist(left_BZ, book_KZ).square()
        return even_assignment(distance, self.config.sinkhorn) if even else distance.argmin(dim=1)

    def quantiser(self, scale: Projection) -> Quantiser:
        """What it has learned, in NumPy."""
        ways = [_weights(way) for way in (self.encoder, self.decoder)]
        return Quantiser(Projection(scale.mean, scale.spread, *ways), tuple(book.detach().cpu().numpy().copy() for book in self.books))


def fit_rqvae(
    vectors_ND: Vectors, config: SemanticConfig, seed: int, collaborative: Vectors | None, quiet: bool
) -> tuple[Quantiser, dict[str, Any]]:
    """A quantiser, and how its collision rate and loss went.

    Args:
        vectors_ND: The vectors to learn from.
        config: Settings.
        seed: Of all that is drawn.
        collaborative: float32[N, any], for `align`; zeros where there is none.
        quiet: Whether to show no progress.

    Raises:
        ConfigError: If `align` is set and there are no collaborative vectors.
    """
    own = config.rqvae
    if own.align and collaborative is None:
        raise ConfigError("rqvae.align needs collaborative vectors: give SemanticIds.fit those of a fitted model, or set rqvae.align=0")
    draw = torch.Generator().manual_seed(seed)
    device = torch.device(own.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    scale = Projection.scaling(vectors_ND)
    x = torch.from_numpy(scale.scaled(vectors_ND)).to(device)
    met = None if collaborative is None or not own.align else torch.from_numpy(np.asarray(collaborative, np.float32)).to(device)
    net = _Net(x.shape[1], min(config.size, len(x)), config, 0 if met is None else met.shape[1], draw).to(device)
    _begin(net, x, draw)
    return _trained(net, x, met, scale, vectors_ND, draw, quiet)


def _trained(
    net: _Net, x: Tensor, met: Tensor | None, scale: Projection, vectors: Vectors, draw: torch.Generator, quiet: bool
) -> tuple[Quantiser, dict[str, Any]]:
    own = net.config
    optimiser = torch.optim.AdamW(net.parameters(), lr=own.learning_rate, weight_decay=own.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, own.epochs * math.ceil(len(x) / own.batch))
    looks = {round(own.epochs * (1 + look / own.checks) / 2) for look in range(1, own.checks + 1)}
    count = [torch.zeros(len(book), dtype=torch.int64, device=x.device) for book in net.books]
    best: tuple[float, float, int] | None = None
    kept, curve = net.quantiser(scale), []
    with progress("RQ-VAE", own.epochs, "epochs", quiet) as bar:
        for epoch in range(1, own.epochs + 1):
            loss = _epoch(net, (x, met), (optimiser, schedule), count, draw)
            if own.revive and epoch % own.revive == 0 and epoch <= own.epochs // 2:
                _revive(net, x, count, draw)
            if epoch in looks:
                found = net.quantiser(scale)
                codes = found.codes(found.projection(vectors))
                rate, lost = collision_rate(codes), lost_share(vectors, found.projection.back(found.decoded(codes)))
                curve.append({"epoch": epoch, "collision rate": rate, "lost": lost})
                if best is None or (rate, lost, epoch) < best:
                    best, kept = (rate, lost, epoch), found
            bar.advance(note=f"loss {loss:.4f}")
    return kept, {"epochs": own.epochs, "epoch kept": best[2] if best else 0, "curve": curve}


def _epoch(net: _Net, data: tuple[Tensor, Tensor | None], steps: tuple[Any, Any], count: list[Tensor], draw: torch.Generator) -> float:
    """One round through the items; the codes that were taken are added to `count`. Returns the last step's loss."""
    (x, met), (optimiser, schedule) = data, steps
    clusters = [_clusters(book.detach(), draw) for book in net.books] if net.config.diversity else []
    order, value = torch.randperm(len(x), generator=draw).to(x.device), 0.0
    for start in range(0, len(x), net.config.batch):
        rows = order[start : start + net.config.batch]
        loss, codes = _step_loss(net, x[rows], None if met is None else met[rows], clusters, draw)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        for seen, code in zip(count, codes, strict=True):
            seen.add_(torch.bincount(code, minlength=len(seen)))
        value = float(loss.detach())
    return value


def _step_loss(net: _Net, x_BD: Tensor, met: Tensor | None, clusters: list[Tensor], draw: torch.Generator) -> tuple[Tensor, list[Tensor]]:
    own = net.config
    loss, total, codes = net(x_BD)
    if met is not None and net.to_collaborative is not None:
        known = met.any(dim=1)
        if known.any():
            cosine = functional.normalize(net.to_collaborative(total[known]), dim=1) @ functional.normalize(met[known], dim=1).T
            loss = loss + own.align * functional.cross_entropy(cosine / own.temperature, torch.arange(len(cosine), device=cosine.device))
    for book, code, cluster in zip(net.books, codes, clusters, strict=False):
        loss = loss + own.diversity / len(codes) * _diversity(book, code, cluster, own.temperature, draw)
    return loss, codes


def even_assignment(distance_BK: Tensor, sharpness: float) -> Tensor:
    """int64[B], codes that about equally many items take, by Sinkhorn's iterations on exp(-distance / sharpness)."""
    low, high = distance_BK.min(), distance_BK.max()
    centred = (distance_BK - (low + high) / 2).double() / ((high - low) / 2).clamp_min(1e-12)
    log = -centred / sharpness
    share = (log - log.max(dim=1, keepdim=True).values).exp()  # the scale of a row is taken out by the iterations; so it cannot vanish
    for _ in range(_EVEN_ROUNDS):
        share = share / share.sum(dim=0).clamp_min(1e-300)
        share = share / share.sum(dim=1, keepdim=True).clamp_min(1e-300)
    return share.argmax(dim=1)


def _diversity(book_KZ: Tensor, code_B: Tensor, cluster_K: Tensor, temperature: float, draw: torch.Generator) -> Tensor:
    """Cross-entropy of another code of the same cluster among all other codes: it draws a cluster together, and so apart from the others."""
    unit = functional.normalize(book_KZ, dim=1)
    logits = unit[code_B] @ unit.T / temperature
    self_BK = functional.one_hot(code_B, len(unit)).bool()
    mates = (cluster_K[code_B][:, None] == cluster_K) & ~self_BK
    some = mates.any(dim=1)
    if not some.any():
        return logits.new_zeros(())
    noise = torch.rand(mates.shape, generator=draw).to(mates.device)
    mate = noise.masked_fill(~mates, -1).argmax(dim=1)
    return functional.cross_entropy(logits.masked_fill(self_BK, -torch.inf)[some], mate[some])


def _clusters(book_KZ: Tensor, draw: torch.Generator) -> Tensor:
    """int64[K], a cluster of each code."""
    centre = _k_means(book_KZ, min(_CLUSTERS, len(book_KZ)), draw)
    return torch.cdist(book_KZ, centre).argmin(dim=1)


@torch.no_grad()
def _begin(net: _Net, x_ND: Tensor, draw: torch.Generator) -> None:
    """Books by k-means on what the new encoder makes of the vectors."""
    left = net.encoder(x_ND)
    for book in net.books:
        book.copy_(_k_means(left, len(book), draw))
        left = left - book[torch.cdist(left, book).argmin(dim=1)]


@torch.no_grad()
def _revive(net: _Net, x_ND: Tensor, count: list[Tensor], draw: torch.Generator) -> None:
    """Codes that no item took become what is left of items drawn at random; counting begins again."""
    left = net.encoder(x_ND)
    for book, seen in zip(net.books, count, strict=True):
        code = torch.cdist(left, book).argmin(dim=1)
        dead = torch.nonzero(seen == 0).flatten()
        book[dead] = left[torch.randperm(len(left), generator=draw)[: len(dead)].to(left.device)]
        left = left - book[code]
        seen.zero_()


def _k_means(x_NZ: Tensor, size: int, draw: torch.Generator) -> Tensor:
    """Centres [size, Z]; one that loses all its vectors stays where it was."""
    centre = x_NZ[torch.randperm(len(x_NZ), generator=draw)[:size].to(x_NZ.device)].clone()
    for _ in range(_START_ROUNDS):
        code = torch.cdist(x_NZ, centre).argmin(dim=1)
        total = torch.zeros_like(centre).index_add_(0, code, x_NZ)
        number = torch.bincount(code, minlength=size)[:, None]
        centre = torch.where(number > 0, total / number.clamp_min(1), centre)
    return centre


def _layers(widths: list[int], draw: torch.Generator) -> nn.Sequential:
    made: list[nn.Module] = []
    for n, (width, other) in enumerate(itertools.pairwise(widths)):
        with torch.random.fork_rng(devices=[]):  # a layer draws a start of its own, which is not wanted, from the generator of the whole process
            layer = nn.Linear(width, other)
        nn.init.xavier_normal_(layer.weight, generator=draw)
        nn.init.zeros_(layer.bias)
        made += [nn.ReLU(), layer] if n else [layer]
    return nn.Sequential(*made)


def _weights(layers: nn.Sequential) -> Layers:
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    return tuple((layer.weight.detach().cpu().numpy().copy(), layer.bias.detach().cpu().numpy().copy()) for layer in linear)
