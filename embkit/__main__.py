"""The command line: ``python -m embkit``."""

import sys

from .cli.main import main

sys.exit(main())
