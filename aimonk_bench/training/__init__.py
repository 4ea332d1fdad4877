"""Stacked training of linear heads: losses, missing-label policies, samplers, heads, batches, the trainer."""
