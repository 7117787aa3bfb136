"""Gymnasium's bodies, in its own files."""
