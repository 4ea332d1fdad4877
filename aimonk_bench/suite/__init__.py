"""Plans and executes runs: one, or all of a suite."""
