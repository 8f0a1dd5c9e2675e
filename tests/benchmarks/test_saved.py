"""The documents state the saved figures, and nothing else."""

from pathlib import Path

import pytest

from benchmarks.load import saved
from benchmarks.load.scenarios import PAGE_RUNS


def test_documents_state_the_saved_figures() -> None:
    figures, page, readme = saved.load(), saved.PAGE.read_text(), saved.README.read_text()
    assert saved.fill_page(page, figures) == page
    assert saved.fill_readme(readme, figures) == readme
    assert {*figures["serve"]} == {cell.name for cell in PAGE_RUNS}


def test_saved_figures_replace_those_of_the_same_run_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = saved.load()
    for name in ("FIGURES", "PAGE", "README"):
        copy = folder / name
        copy.write_text(getattr(saved, name).read_text())
        monkeypatch.setattr(saved, name, copy)
    peer = {**figures["serve"]["hit 32"]["fastapi"], "ratio": 77.77}
    saved.save("serve", {"hit 32": {**figures["serve"]["hit 32"], "fastapi": peer}})
    changed = saved.load()
    assert changed["serve"].pop("hit 32") != figures["serve"].pop("hit 32")
    assert changed == figures
    assert "| cached read | 77.8 x |" in saved.PAGE.read_text()
    assert "77.8 times as many cached reads" in " ".join(saved.README.read_text().split())
