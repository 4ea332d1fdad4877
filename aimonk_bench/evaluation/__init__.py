"""What a trained run is worth: its predictions, thresholds tuned on validation rows only, and its figures."""
