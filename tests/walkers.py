"""Settings of walk_mtu that tests share."""

# the source's legs with the benchmark's damping and floor, and a reward of nothing but speed, posture and activation
SOURCE = {
    "reference": None,
    "mended": False,
    "anatomy": False,
    "elastic": False,
    "damping": 0.25,
    "ground": 1.0,
    "economy": 0.0,
    "ease": 0.0,
    "slip": 0.0,
}
