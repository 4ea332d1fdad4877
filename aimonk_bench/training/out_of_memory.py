"""Fine-tuning that runs out of memory: a batch is cut into smaller parts where that gives the same result."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from aimonk_bench.backbones.device_memory import AtOnce, is_full
from aimonk_bench.errors import RunFailed, UserError, count
from aimonk_bench.training.objective import check_accumulation
from aimonk_bench.training.recipe import Recipe


def in_memory(backward: Callable[[int], Tensor], network: nn.Module, recipe: Recipe, at_once: AtOnce) -> Tensor:
    """The loss of a batch, whose gradients are computed; again in smaller parts where CUDA runs out of memory.

    Args:
        backward: computes the gradients, so many images in a part; it begins without gradients.
        network: the trainable layers and the head.
        recipe: loss, missing-label policy and batch size.
        at_once: images in a part, from now on.

    Raises:
        RunFailed: see `check_cut`.
    """
    while True:
        tried = min(at_once.images, recipe.train.batch_size)
        try:
            return backward(tried)
        except RuntimeError as error:
            if not is_full(error):
                raise
            check_cut(network, recipe, tried, error)
        network.zero_grad()  # frees the gradients of the parts that were done
        at_once.halve(tried)


def check_cut(network: nn.Module, recipe: Recipe, tried: int, error: Exception) -> None:
    """Check that the parts of a batch may be smaller: their gradients must add up to those of the batch.

    Args:
        network: the trainable layers and the head.
        recipe: loss and missing-label policy.
        tried: images of a part for which there was too little memory.
        error: that says so.

    Raises:
        RunFailed: a part is one image, the loss of a part depends on the rest of the batch, or BatchNorm does.
    """
    norms = sum(isinstance(layer, _BatchNorm) for layer in network.modules())
    batch = recipe.train.batch_size
    less = "a smaller train.batch_size or transform.size, or more frozen layers (backbone.freeze)"

    def fail(reason: str, fix: str) -> NoReturn:
        raise RunFailed(
            f"CUDA out of memory while training {count(tried, 'image')} at once: {reason} (fix: {fix})"
        ) from error

    if tried == 1:
        fail("there are no fewer", "a smaller transform.size, or more frozen layers (backbone.freeze)")
    try:
        check_accumulation(recipe.loss, recipe.missing, 2)
    except UserError:
        fail(f"the loss of {recipe.loss.name} + {recipe.missing.name} needs the whole batch of {batch}", less)
    if norms:
        accumulate = -(-batch // (tried // 2))
        fail(
            f"fewer would change the statistics of {count(norms, 'BatchNorm layer')}",
            f"train.accumulate: {accumulate}, which is another recipe, for every run of a comparison; {less}",
        )
