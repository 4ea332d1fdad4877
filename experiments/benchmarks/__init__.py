"""Speed benchmarks: against plain scripts, against other tools and against what the machine can do.

What is compared is timed in turns in one process, and the best of the repeats counts. Read the ratios, not the seconds.
"""
