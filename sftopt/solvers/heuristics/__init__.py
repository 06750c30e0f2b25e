"""Plans without a proof: greedy, alternating, constructive, augmented Lagrangian; polishing and repair."""
