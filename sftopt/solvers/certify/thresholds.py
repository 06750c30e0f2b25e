"""From how many devices on the search takes which shortcut, found by timing."""

BRANCHED = 400
"""Single devices are branched on up to this many: beyond, duality leaves next to no gap."""
SAMPLED = 2000
"""From so many devices on, first multipliers come from a sample."""
SAMPLE = 300
"""Devices in that sample."""
TABLED = 4
"""With fewer devices tables of single options take longer to fill than they save."""
TOGETHER = 16
"""Up to so many devices many boxes are bounded in one call, with little effort for each: handing
one over takes as long as two evaluations."""
LISTED = 50
"""With fewer devices lists of live items are not worth their keep."""
LARGE = 300
"""With more devices plans come from few decodings."""
COARSE = 60
"""With fewer devices a finer merged table takes longer to fill than it saves."""
MANY = 600
"""From so many devices on a finer merged table is worth its filling."""
CHOOSING = 400
"""Up to so many devices the mean loss of cells with operating points is kept exactly: with more,
choices are too many and the price of loss leaves less."""
