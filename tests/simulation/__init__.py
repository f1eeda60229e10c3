"""The product under deterministic simulation: virtual time, seeded order, and a world that is worse than the real one."""
