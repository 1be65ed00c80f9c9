"""`python -m clx` is `clx`."""

import sys

from clx.cli import main

sys.exit(main())
