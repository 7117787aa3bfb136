"""What one can read of a state: poses, motions and forces, muscles' fibres, their metabolic power, sensors."""
