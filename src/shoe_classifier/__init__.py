"""A self-hosted picture classifier that its users teach."""

__version__ = "1.0.0"
