"""The commands of ``python -m embkit``, by topic: each calls what the notebooks call."""
