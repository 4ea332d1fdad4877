"""Finished work in experiment trackers: MLflow and TensorBoard."""
