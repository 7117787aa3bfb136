"""Quantities of a block of worlds, a lane each: vectors in kernels, the memory they come from, and the launch."""
