"""How fast it is, against what the machine can do and against plain scripts.

Ratios, not bare seconds: what is compared is timed in turns in one process, and the best of the repeats counts.
"""
