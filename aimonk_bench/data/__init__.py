"""Labels, image files, transforms and splits: the data of an experiment."""
