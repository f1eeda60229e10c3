"""The product under deterministic simulation: virtual time, seeded order, and a world worse than ours."""
