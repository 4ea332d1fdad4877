"""Where the bias of a head starts: by default at the constant logit with the lowest loss on the training labels.

A bias that starts near 0 lies far from where a rare or a common attribute needs it, and moves only as far as its
learning rate lets it: meanwhile the weights learn the offset, which weight decay and early stopping then hold back.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aimonk_bench.data.labels import Labels
from aimonk_bench.registry import Spec
from aimonk_bench.training.objective import Objective
from aimonk_bench.training.stack import Stack

LIMIT = 8.0  # of a logit: a probability of 0.9997
HALVINGS = 30  # of the interval from -LIMIT to LIMIT
ADDED = (0.5, 0.5, 0.0)  # positives, negatives and missing labels that are added to each attribute: no share is 0 or 1


def initial_bias(stack: Stack, missing: Spec, uniform: Tensor) -> Tensor:
    """The biases [H, 1, A] with which heads start, by `train.bias_init`.

    A policy that reads logits, the epoch or a teacher does not say what missing labels will count as: then the observed
    labels decide alone.

    Args:
        missing: the missing-label policy of the stage.
        uniform: [H, 1, A] the biases as torch.nn.Linear draws them.
    """
    if stack.recipe.train.bias_init == "uniform":
        return uniform
    objective = stack.objective(missing)
    return best_constant(objective if objective.labels_only else stack.objective(Spec("ignore")), stack.counts)


def best_constant(objective: Objective, counts: Tensor) -> Tensor:
    """The logits [H, 1, A], from -8 to 8, with the lowest loss if every image has the same ones.

    Of masked BCE they are the log odds of the labels (the prior of arXiv 1708.02002, section 4.1). For a set loss, and
    for one without a minimum between -8 and 8, they are the log odds of the labels as the policy fills them. A loss
    or a policy whose weights depend on the other labels of an image, as those of distribution_balanced, is judged on
    images whose labels are all alike.

    Args:
        objective: of the heads, under a policy that reads labels alone.
        counts: [H, 3, A] positive, negative and missing labels.
    """
    images = counts + counts.new_tensor(ADDED)[:, None]
    # one row for each kind of label stands for all images that have it
    values, observed = counts.new_tensor([1, 0, 0]), torch.tensor([True, True, False], device=counts.device)
    labels = Labels(values[:, None].expand_as(counts).clone(), observed[:, None].expand_as(counts).clone())
    targets, weights, _ = objective.fill(labels, None)
    share = (targets * weights * images).sum(1) / (weights * images).sum(1)
    log_odds = share.nan_to_num(0.5).logit().clamp(-LIMIT, LIMIT)
    if objective.is_set_loss:
        return log_odds[:, None]

    def slope(logits: Tensor) -> Tensor:
        """The derivative [H, A] of the loss by the logits, up to a positive factor."""
        return (objective.value_and_grad(logits[:, None].expand_as(counts), labels, 1)[1] * images).sum(1)

    high = torch.full_like(log_odds, LIMIT)
    low = -high
    has_minimum = (slope(low) < 0) & (slope(high) > 0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        rises = slope(middle) > 0
        low, high = torch.where(rises, low, middle), torch.where(rises, middle, high)
    return torch.where(has_minimum, (low + high) / 2, log_odds)[:, None]
