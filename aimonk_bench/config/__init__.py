"""What to run: a YAML file, read with positions and checked to the last key."""
