"""The command line's door."""

import sys

from .cli import main

sys.exit(main())
