"""Plans without a proof: greedy, alternating, constructive, augmented Lagrangian; repair."""
