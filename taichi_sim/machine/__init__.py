"""What the machine has: cards, cores, memory, a folder for compiled kernels."""
