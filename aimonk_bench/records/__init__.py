"""What a run and a suite leave on disk: written atomically and read back. Never torch."""
