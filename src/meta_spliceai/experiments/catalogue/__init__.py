"""The wishlist itself: one YAML file a section, read by `experiments.rows`."""
