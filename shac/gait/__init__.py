"""How a policy walks, as a gait laboratory measures people."""
