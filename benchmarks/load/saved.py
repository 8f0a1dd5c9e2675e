"""The figures that benchmarks save, and the documents that state them.

With --save, a benchmark stores its figures in benchmarks/figures.json, and updates the tables of
docs/performance.md and the ratios of README.md. So no figure is typed, and single benchmarks can be
repeated. A test compares the documents with the file.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from benchmarks.load import page_tables
from benchmarks.load.contestants import ROOT

FIGURES: Final = ROOT / "benchmarks" / "figures.json"
PAGE: Final = ROOT / "docs" / "performance.md"
README: Final = ROOT / "README.md"

Figures = Mapping[str, Any]

# By the name in the markers: the benchmark that has the figures, and the table.
_TABLES: Final[Mapping[str, tuple[str, Callable[[Figures], str]]]] = {
    "ratios": ("serve", page_tables.ratios),
    "scenarios": ("serve", page_tables.scenarios),
    "cached reads": ("serve", page_tables.cached_reads),
    "worker": ("worker", page_tables.worker),
    "pythons": ("pythons", page_tables.pythons),
    "growth": ("growth", page_tables.growth),
    "transfer": ("transfer", page_tables.transfer),
    "layers": ("profile", page_tables.layers),
}
# The ratios in the README: a pattern with the number in it, and the run that it is from.
_SENTENCES: Final = (
    (r"[\d.]+(?=\s+times\s+as\s+many\s+cached\s+reads\s+per\s+second\s+as\s+FastAPI)", "hit 32"),
    (r"[\d.]+(?=\s+times\s+as\s+many\s+uncached\s+reads)", "miss 32"),
    (r"[\d.]+(?=\s+times\s+as\s+many\s+cached\s+reads\.)", "hit 256"),
)


def load() -> dict[str, Any]:
    """Return the saved figures, by benchmark."""
    return json.loads(FIGURES.read_text()) if FIGURES.exists() else {}


def save(benchmark: str, figures: Figures) -> None:
    """Store figures of a benchmark, beside its other ones, and update the documents."""
    saved = load()
    saved[benchmark] = {**saved.get(benchmark, {}), **figures}
    FIGURES.write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(fill_page(PAGE.read_text(), saved))
    README.write_text(fill_readme(README.read_text(), saved))


def fill_page(text: str, saved: Figures) -> str:
    """Return the page with the tables of the figures between their markers."""
    for name, (benchmark, make) in _TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        if found and benchmark in saved:
            text = f"{before}{begin}{make(saved)}\n{end}{rest.partition(end)[2]}"
    return text


def fill_readme(text: str, saved: Figures) -> str:
    """Return the README with the ratios of the figures."""
    for pattern, cell in _SENTENCES:
        if cell not in saved.get("serve", {}):
            continue
        ratio = saved["serve"][cell]["fastapi"]["ratio"]
        text, found = re.subn(pattern, f"{ratio:.1f}", text)
        assert found == 1, pattern
    return text
