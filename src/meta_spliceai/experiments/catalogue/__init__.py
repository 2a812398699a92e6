"""The wishlist itself: one YAML file per section, read by `experiments.spec.rows`."""
