"""Simulations of the statistics: what the intervals cover and how often the tests are wrong."""
