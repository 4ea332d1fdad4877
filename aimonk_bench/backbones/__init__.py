"""Frozen feature extractors: which there are, their weights, how they encode, and the store of what they gave."""
