"""The command line's door."""

import sys

from .cli.main import main

sys.exit(main())
