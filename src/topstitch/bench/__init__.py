"""Named tasks: where the log comes from, and the settings of each algorithm on it, each with its reason."""
