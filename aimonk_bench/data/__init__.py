"""Labels, pictures, transforms and splits: what an experiment is run on."""
