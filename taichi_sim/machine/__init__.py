"""What the machine has: cards and memory."""
