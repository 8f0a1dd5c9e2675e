"""A bar chart of ratios, as SVG."""

from collections.abc import Mapping
from html import escape

_WIDTH, _ROW, _TOP = 640, 34, 46  # pixels
_LABEL = 150  # pixels for the names of the rows
_BAR, _PEER_LINE, _TEXT = "#3b6ea5", "#b0532f", "#24292f"


def draw(ratios: Mapping[str, float], peer: str = "FastAPI") -> str:
    """Return a chart of requests per second, in multiples of the peer's."""
    scale = (_WIDTH - _LABEL - 60) / max(1.0, *ratios.values())
    rows = [
        f'<text x="{_LABEL - 10}" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
        f'<rect x="{_LABEL}" y="{y}" width="{ratio * scale:.0f}" height="20" fill="{_BAR}"/>'
        f'<text x="{_LABEL + ratio * scale + 8:.0f}" y="{y + 15}">{ratio:.1f} x</text>'
        for y, (name, ratio) in zip(range(_TOP, 10_000, _ROW), ratios.items(), strict=False)
    ]
    height = _TOP + _ROW * len(ratios) + 10
    one = _LABEL + scale
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            f'font-family="sans-serif" font-size="14" fill="{_TEXT}">',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            f'<text x="10" y="22">Requests per second, in multiples of {escape(peer)}</text>',
            *rows,
            f'<line x1="{one:.0f}" x2="{one:.0f}" y1="{_TOP - 8}" y2="{height - 10}" '
            f'stroke="{_PEER_LINE}" stroke-dasharray="4 3"/>',
            f'<text x="{one + 5:.0f}" y="{_TOP - 10}" fill="{_PEER_LINE}" font-size="12">'
            f"{escape(peer)}</text>",
            "</svg>\n",
        ]
    )
