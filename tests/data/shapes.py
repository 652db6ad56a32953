"""Files of pairs as people have them: one table of invented rows, written in every shape.

``SHAPES`` is name -> writer of a shape into a folder, which returns the path to load;
``write(name, folder)`` calls it and says what is right for it.
"""

from tests.data import asked_shapes, file_shapes, folder_shapes, picture_shapes  # register shapes
from tests.data.written import PAIRS, RIGHT, SHAPES, Texts, Written, write

__all__ = ["PAIRS", "RIGHT", "SHAPES", "Texts", "Written", "write"]
__all__ += ["asked_shapes", "file_shapes", "folder_shapes", "picture_shapes"]
