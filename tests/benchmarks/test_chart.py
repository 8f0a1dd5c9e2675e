"""The bar chart of scripts/bench quick."""

from xml.etree import ElementTree as ET

from benchmarks.load.chart import draw

SVG = "{http://www.w3.org/2000/svg}"


def test_chart_is_svg_with_a_bar_for_each_ratio() -> None:
    chart = ET.fromstring(draw({"cached GET": 6.0, "PUT <small>": 0.5}))  # noqa: S314  (our own)
    assert chart.tag == f"{SVG}svg"
    texts = [text.text for text in chart.iter(f"{SVG}text")]
    assert {"cached GET", "6.0 x", "PUT <small>", "0.5 x"} <= {*texts}
    _, first, second = [float(bar.attrib["width"].rstrip("%")) for bar in chart.iter(f"{SVG}rect")]
    assert abs(first / second - 12) < 0.5
