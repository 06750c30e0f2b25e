"""``python -m sftopt`` is the command ``sftopt``."""

import sys

from sftopt.face.cli import main

sys.exit(main())
