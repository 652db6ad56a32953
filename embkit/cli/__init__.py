"""The commands of ``python -m embkit``, by room: each calls what the notebooks call."""
