"""One file per command: each returns an :class:`sftopt.face.output.Answer` and prints nothing."""
