"""The colours of muscles' activation, and the bar that explains them in a picture."""

from __future__ import annotations

import functools

import numpy as np

_RAMP_ENDS = np.array([[0.08, 0.27, 0.80], [0.89, 0.10, 0.11]])

# Oklab (Ottosson 2020): linear sRGB to cone responses, and their cube roots to lightness, green-red and blue-yellow.
_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def activation_rgb(activation) -> np.ndarray:
    """Colours of activations: blue at 0, purple, red at 1; values beyond are clipped.

    The way between the ends is straight in Oklab, a perceptually even space, so equal steps of activation look equal.
    The red is the lighter end, and no two colours differ in their green-red part alone: the order survives colour
    blindness and grey print.

    Args:
        activation: array of any shape.

    Returns:
        Colours as displayed, 0 to 1, shape (..., 3).
    """
    share = np.clip(np.asarray(activation, dtype=np.float64), 0.0, 1.0)[..., None]
    low, high = (_TO_LAB @ np.cbrt(_TO_CONES @ end**2.2) for end in _RAMP_ENDS)
    cones = ((low + share * (high - low)) @ np.linalg.inv(_TO_LAB).T) ** 3
    return np.clip(cones @ np.linalg.inv(_TO_CONES).T, 0.0, 1.0) ** (1 / 2.2)


def draw_colorbar(picture: np.ndarray) -> np.ndarray:
    """Draws a bar of activation's colours into the lower right corner of a picture (height, width, 3), uint8."""
    color, opacity = _bar(*picture.shape[1::-1])
    corner = picture[-len(color) :, -color.shape[1] :]
    corner[:] = np.rint(corner + opacity * (color - corner.astype(np.float64)))
    return picture


@functools.lru_cache(maxsize=4)
def _bar(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Colours and opacities, (rows, columns, 3) and (rows, columns, 1), to lay over that corner."""
    from PIL import Image, ImageDraw, ImageFont

    text = max(height / 30, 7.0)
    font = ImageFont.load_default(size=text)
    bar_width, bar_height = round(width / 5), max(round(text / 2), 2)
    left, top = round(2 * text), round(2 * text)
    columns, rows = left + bar_width + round(2 * text), top + bar_height + round(text)
    overlay = Image.new("RGBA", (columns, rows), (255, 255, 255, 0))
    draw = ImageDraw.Draw(overlay)
    ink = dict(
        fill=(30, 34, 40, 255), font=font, stroke_width=max(1, round(text / 12)), stroke_fill=(255, 255, 255, 170)
    )
    middle = top + bar_height / 2
    draw.text((left - text / 2, middle), "0", anchor="rm", **ink)
    draw.text((left + bar_width + text / 2, middle), "1", anchor="lm", **ink)
    draw.text((left + bar_width / 2, top - text / 3), "activation", anchor="ms", **ink)
    pixels = np.array(overlay, dtype=np.float64)
    ramp = activation_rgb((np.arange(bar_width) + 0.5) / bar_width)
    pixels[top : top + bar_height, left : left + bar_width, :3] = 255 * ramp
    pixels[top : top + bar_height, left : left + bar_width, 3] = 255
    # what a tiny picture has no room for is cut off
    pixels = pixels[-height:, -width:]
    return pixels[..., :3], pixels[..., 3:] / 255
