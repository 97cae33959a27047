"""Why gradient-rank and steady-rank are what they are: their variants, ranked by ``nni-knas benchmark``.

    python measurements/variants.py --benchmark nats-tss --table TABLE --data folder:CIFAR10 --architectures 300

Takes the options of ``nni-knas benchmark``. How layers are combined: the sum of the effective ranks ``r``, of their
logarithms, squares and cubes, their mean, and the score over the number of layers or its square root. What a layer's
gradient is seen as: the entropy or the second moment of its spectrum in the place of its nuclear norm. What the samples add:
each layer times the squared effective rank of the cosines between its per-sample gradients. Where the network starts: He's
initialisation, or orthogonal weights, in the place of its own. What is explained: the gradient of the outputs rather than
the loss. How the gradient's size enters: as the score has it; its logarithm layer by layer; its fourth root; how unequal it
is among layers; and the other way round, as a factor, as the paper has it.
"""

import math
import sys
from collections.abc import Callable

from nni_knas.cli import main
from registering import register_functions
from nni_knas.gradients import Gradients, seeded
from nni_knas.scores import MGM, GradientRank
from nni_knas.scores import mean_matrices
from nni_knas.scores import effective_ranks

import torch
from torch import Tensor, nn


def ranks(gradients: Gradients) -> Tensor:
    return effective_ranks(mean_matrices(gradients))


def spectra(gradients: Gradients) -> list[Tensor]:
    """Squared singular values of each layer as parts of their sum; layers without gradient are left out."""
    squares = [torch.linalg.svdvals(m.double()).square() for m in mean_matrices(gradients)]
    return [s / s.sum() for s in squares if s.sum() > 0]


def restarted(gradients: Gradients, start: Callable[[Tensor], Tensor]) -> float:
    """gradient-rank from other initial weights."""
    layers = [m for m in gradients.network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    found = [layer.weight.detach().clone() for layer in layers]
    try:
        with seeded(gradients.seed):
            for layer in layers:
                start(layer.weight)
        return GradientRank()(
            Gradients(
                gradients.network,
                gradients.minibatch,
                loss=gradients.loss,
                normalization=gradients.normalization,
                seed=gradients.seed,
            )
        )
    finally:
        with torch.no_grad():
            for layer, weight in zip(layers, found):
                layer.weight.copy_(weight)


def with_samples(gradients: Gradients) -> float:
    """Sum over layers of the score's term times the squared effective rank of the per-sample gradients' cosines."""
    layers = {name: g.flatten(1) for name, g in gradients.per_sample().items() if g.dim() > 2}
    samples = effective_ranks([nn.functional.normalize(g, dim=1) for g in layers.values()])
    rank = effective_ranks([g.mean(0).view(len(gradients.parameters[name]), -1) for name, g in layers.items()])
    sizes = torch.tensor([gradients.parameters[name].numel() for name in layers], dtype=torch.float64)
    return float((rank.square() * samples.square() * sizes.log()).sum())


def over_layers(gradients: Gradients, power: float) -> float:
    """The score divided by a power of the number of layers that receive a gradient."""
    return GradientRank()(gradients) / math.pow(len(mean_matrices(gradients)), power)


def sizes(gradients: Gradients) -> Tensor:
    """Norms of the layers' mean gradients; layers without gradient are left out."""
    norms = torch.stack([m.double().norm() for m in mean_matrices(gradients)])
    return norms[norms > 0]


def norm_by_layer(gradients: Gradients) -> float:
    """Sum over layers of r^2 log(1 + n / |g|^2)."""
    layers = mean_matrices(gradients)
    terms = [
        r**2 * torch.log1p(m.numel() / m.double().square().sum()) for r, m in zip(effective_ranks(layers), layers) if r > 0
    ]
    return float(sum(terms))


def imbalance(gradients: Gradients) -> float:
    """The score over the logarithm of the layers' summed gradient norm by its geometric mean."""
    norms = sizes(gradients)
    return GradientRank()(gradients) / float(torch.log1p(norms.sum() / norms.log().mean().exp()))


VARIANTS: dict[str, Callable[[Gradients], float]] = {
    'sum-r': lambda gradients: float(ranks(gradients).sum()),
    'mean-r': lambda gradients: float(ranks(gradients).mean()),
    'sum-log-r': lambda gradients: float(torch.log1p(ranks(gradients)).sum()),
    'sum-r2': lambda gradients: float(ranks(gradients).square().sum()),
    'sum-r3': lambda gradients: float(ranks(gradients).pow(3).sum()),
    'second-moment': lambda gradients: sum(float(1 / p.square().sum()) ** 2 for p in spectra(gradients)),
    'entropy': lambda gradients: sum(float(torch.special.entr(p).sum().exp()) ** 2 for p in spectra(gradients)),
    'mean': lambda gradients: over_layers(gradients, 1),
    'root-of-layers': lambda gradients: over_layers(gradients, 0.5),
    'with-samples': with_samples,
    'norm-by-layer': norm_by_layer,
    'norm-fourth-root': lambda gradients: GradientRank()(gradients) / float(sizes(gradients).sum()) ** 0.25,
    'norm-imbalance': imbalance,
    'times-mgm': lambda gradients: GradientRank()(gradients) * MGM()(gradients),
    'of-outputs': lambda gradients: GradientRank()(gradients.of_outputs()),
    'he-start': lambda gradients: restarted(gradients, nn.init.kaiming_normal_),
    'orthogonal-start': lambda gradients: restarted(gradients, nn.init.orthogonal_),
}

register_functions(VARIANTS)

if __name__ == '__main__':
    sys.exit(main(['benchmark', '--scores', ','.join(['steady-rank', 'gradient-rank', *VARIANTS]), *sys.argv[1:]]))
