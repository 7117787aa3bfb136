"""What kernels write down of a step for its backward pass, and of a state for who asks."""
