"""What people look at: the tidy rows, the table on the terminal, and the curves. Never torch."""
