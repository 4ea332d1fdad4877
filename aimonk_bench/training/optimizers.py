"""Optimizers of stacked heads: torch's formulas with a learning rate and a weight decay per head.

    move = adam(parameters, gradients, lr, weight_decay);  move(factor)

``parameters`` and ``gradients`` are tensors [H, ., .]; ``lr`` and ``weight_decay`` are tensors [H, 1, 1]. The caller
writes the gradients of a step into ``gradients``; a call moves the parameters in place, at ``factor`` times the
learning rate, and may overwrite the gradients. torch's own optimizers have one learning rate for all heads, and
importing them takes seconds. A fine-tuned network is trained with the class of `torch.optim` that the entry declares
as ``torch_name``; ``decoupled`` declares that weight decay stays out of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeAlias

from annotated_types import Ge, Lt

from aimonk_bench.config.fields import TrainConfig
from aimonk_bench.errors import UserError
from aimonk_bench.training.entries import declared, declares
from aimonk_bench.training.lazy_torch import Tensor, torch

Tensors: TypeAlias = list[Tensor]
Move: TypeAlias = Callable[[float], None]

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # torch's


@declares(torch_name="Adam")
def adam(parameters: Tensors, gradients: Tensors, lr: Tensor, weight_decay: Tensor) -> Move:
    """Adam; weight decay, in a head divided by the number of attributes, joins the gradient (torch.optim.Adam)."""
    return _adam(parameters, gradients, lr, weight_decay, decoupled=False)


@declares(torch_name="AdamW", decoupled=True)
def adamw(parameters: Tensors, gradients: Tensors, lr: Tensor, weight_decay: Tensor) -> Move:
    """Adam with decoupled weight decay (torch.optim.AdamW)."""
    return _adam(parameters, gradients, lr, weight_decay, decoupled=True)


def _adam(parameters: Tensors, gradients: Tensors, lr: Tensor, weight_decay: Tensor, *, decoupled: bool) -> Move:
    """Adam in torch's fused kernel, called once for the heads of each learning rate and weight decay.

    The kernel reads and writes everything once instead of in seven calls: 6 % of the default suite from an empty
    feature store.
    """
    kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_
    settings, numbers = torch.stack([lr.flatten(), weight_decay.flatten()], 1).unique(dim=0, return_inverse=True)
    groups = [torch.nonzero(numbers == number).flatten().tolist() for number in range(len(settings))]
    means, squares = ([torch.zeros_like(parameter) for parameter in parameters] for _ in range(2))
    count = torch.zeros((), device=parameters[0].device)

    def of_groups(tensors: Tensors) -> list[Tensors]:
        if len(groups) == 1:
            return [tensors]
        by_head = [tensor.unbind() for tensor in tensors]
        return [[heads[head] for heads in by_head for head in group] for group in groups]

    places = list(zip(settings.tolist(), *map(of_groups, (parameters, gradients, means, squares)), strict=True))

    def move(factor: float) -> None:
        count.add_(1)
        for (rate, decay), weights, of_weights, of_means, of_squares in places:
            kernel(
                weights,
                of_weights,
                of_means,
                of_squares,
                [],
                [count] * len(weights),
                lr=rate * factor,
                beta1=BETA1,
                beta2=BETA2,
                weight_decay=decay,
                eps=EPS,
                amsgrad=False,
                maximize=False,
            )

    return move


def _check_sgd(momentum: float, nesterov: bool) -> None:
    if nesterov and momentum == 0:
        raise UserError("train.optimizer: found nesterov without momentum, expected a momentum above 0")


@declares(torch_name="SGD", check=_check_sgd)
def sgd(
    parameters: Tensors,
    gradients: Tensors,
    lr: Tensor,
    weight_decay: Tensor,
    *,
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
    nesterov: bool = False,
) -> Move:
    """Stochastic gradient descent (torch.optim.SGD); nesterov needs a momentum.

    w -= lr g, or with a momentum lr times the decaying sum of g; nesterov adds momentum times that sum to g. Weight
    decay is added to g as in `adam`.
    """
    _check_sgd(momentum, nesterov)
    sums, decays = [torch.zeros_like(parameter) for parameter in parameters], bool(weight_decay.any())

    def move(factor: float) -> None:
        for weight, gradient, total in zip(parameters, gradients, sums, strict=True):
            if decays:
                gradient.addcmul_(weight, weight_decay)
            if momentum:
                total.mul_(momentum).add_(gradient)
            step = gradient.add_(total, alpha=momentum) if nesterov else total if momentum else gradient
            weight.addcmul_(step, lr, value=-factor)

    return move


def decay_share(optimizer: str, attributes: int) -> float:
    """The part of ``train.weight_decay`` that the weights of a head with A attributes receive.

    1 / A, because the losses are means over attributes: an attribute's weights see 1 / A of its own loss, and the same
    part of the decay keeps the balance of the two, however many attributes there are. The loss zlpr is no such mean;
    with many attributes its heads decay less, compared with its gradient. A decoupled decay does not compete with the
    gradient, so it is not divided.
    """
    return 1.0 if declared(OPTIMIZERS[optimizer], "decoupled") else 1 / attributes


def of_network(layers: torch.nn.Module, head: torch.nn.Linear, config: TrainConfig) -> torch.optim.Optimizer:
    """The config's optimizer from torch, with one learning rate for the head and one for the layers below it.

    Weight decay leaves out parameters with one axis: biases, normalisation layers, layer scales. The head's weights
    receive `decay_share` of it, as on frozen layers. Each group keeps its learning rate as ``rate``, which a schedule
    multiplies.
    """
    groups = []
    head_decay = config.weight_decay * decay_share(config.optimizer.name, head.out_features)
    layers_rate = config.lr if config.backbone_lr is None else config.backbone_lr
    for module, rate, of_weights in ((head, config.lr, head_decay), (layers, layers_rate, config.weight_decay)):
        for decay, is_weight in ((of_weights, True), (0.0, False)):
            parameters = [parameter for parameter in module.parameters() if (parameter.ndim > 1) == is_weight]
            if parameters:
                groups.append({"params": parameters, "lr": rate, "rate": rate, "weight_decay": decay})
    kind = getattr(torch.optim, declared(OPTIMIZERS[config.optimizer.name], "torch_name"))
    optimizer: torch.optim.Optimizer = kind(groups, lr=config.lr, fused=True, **config.optimizer.options)
    return optimizer


def clip(gradients: Tensors, limit: float) -> None:
    """Scale the gradients [H, ., .] of each head, in place, to a norm of at most ``limit`` over all of them."""
    squares = [gradient.square().sum((1, 2), keepdim=True) for gradient in gradients]
    scale = (limit / (sum(squares[1:], squares[0]).sqrt() + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(scale)


OPTIMIZERS: dict[str, Callable[..., Move]] = {"adam": adam, "adamw": adamw, "sgd": sgd}
