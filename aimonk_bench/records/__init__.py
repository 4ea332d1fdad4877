"""What a run and a suite leave on disk: written atomically, read back, and found again. Never torch."""
