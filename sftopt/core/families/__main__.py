"""``python -m sftopt.core.families``: writes the bundled instances into ``sftopt/data``."""

from sftopt.core.library import write_bundled

if __name__ == "__main__":
    write_bundled()
