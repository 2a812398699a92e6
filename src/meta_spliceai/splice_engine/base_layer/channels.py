"""The order of a base network's output channels, the same everywhere in the package."""

CHANNELS = ("neither", "acceptor", "donor")
NEITHER, ACCEPTOR, DONOR = range(3)
