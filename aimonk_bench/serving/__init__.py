"""What is taken home of a finished comparison: a bundle that other programs load, and predictions of new images."""
