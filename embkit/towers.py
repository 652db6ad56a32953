"""Where folders of two towers saved by earlier versions look for their class."""

from .models.clip import Towers

__all__ = ["Towers"]
