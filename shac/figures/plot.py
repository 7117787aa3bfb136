"""What all figures' drawings have in common: matplotlib, fetched when it is needed, and the style."""

from __future__ import annotations

from types import ModuleType

from shac.errors import UserError

# Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS = {"shac": "#0072B2", "bptt": "#D55E00"}
NAMES = {"shac": "SHAC", "bptt": "BPTT"}
# Of a picture across a page [inch].
WIDTH = 7.2
STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "savefig.dpi": 200,
}


def pyplot() -> ModuleType:
    """matplotlib.pyplot in the figures' style, for files: no display is needed.

    Raises:
      UserError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise UserError('figures are drawn with matplotlib: pip install "taichi-sim[figures]"') from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update(STYLE)
    return pyplot
