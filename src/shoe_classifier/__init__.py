"""A self-hosted picture classifier that its users teach."""

__version__ = "0.2.0"
