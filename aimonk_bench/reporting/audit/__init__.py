"""The audit of a data set: what a reader should know, how a terminal shows it, and everything as JSON."""
