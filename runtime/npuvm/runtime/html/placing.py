"""Where the labels of a figure's points stand, so that few of them cover each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

__all__ = ["label_places"]

Box: TypeAlias = tuple[float, float, float, float]
"""Left, lower, right and upper edge."""

_PLACES = {
    "top center": (0, 1),
    "bottom center": (0, -1),
    "middle right": (1, 0),
    "middle left": (-1, 0),
    "top right": (1, 1),
    "top left": (-1, 1),
    "bottom right": (1, -1),
    "bottom left": (-1, -1),
}
"""Plotly's text positions as directions (right, up), the best first."""

_HEIGHT, _DIGIT = 13.0, 7.0
"""Pixels of a label and of one of its characters."""


def label_places(
    points: Sequence[tuple[float, float]], radii: Sequence[float], texts: Sequence[str], leave_out: bool = False
) -> list[str | None]:
    """A text position for each point: the least covered one, the first of several, point by point.

    `points` (right, up) and `radii` are in pixels of the figure as it is mostly seen; on another scale labels may meet. With
    `leave_out` a label that no place is free for gets None.
    """
    taken: list[Box] = [
        (x - radius, y - radius, x + radius, y + radius) for (x, y), radius in zip(points, radii, strict=True)
    ]
    places: list[str | None] = []
    for (x, y), radius, text in zip(points, radii, texts, strict=True):
        boxes = {name: _box(x, y, radius, len(text), direction) for name, direction in _PLACES.items()}
        covered = {name: sum(_overlap(box, other) for other in taken) for name, box in boxes.items()}
        best = min(boxes, key=lambda name: covered[name])
        if leave_out and covered[best]:
            places.append(None)
        else:
            places.append(best)
            taken.append(boxes[best])
    return places


def _box(x: float, y: float, radius: float, characters: int, direction: tuple[int, int]) -> Box:
    width = characters * _DIGIT
    right, up = direction
    centre_x, centre_y = x + right * (radius + width / 2), y + up * (radius + _HEIGHT / 2)
    return centre_x - width / 2, centre_y - _HEIGHT / 2, centre_x + width / 2, centre_y + _HEIGHT / 2


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
