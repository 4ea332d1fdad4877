"""What leaves the benchmark: a bundle with one classifier, and its predictions."""
