"""scripts/bench itself: what there is, and what each takes."""

import subprocess

import pytest

from benchmarks import profile, serve
from benchmarks.load.scenarios import FULL, SCENARIOS
from tests.support.service import ROOT


def test_without_a_name_it_tells_what_there_is() -> None:
    done = subprocess.run(  # noqa: S603
        [ROOT / "scripts" / "bench"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    for file in (ROOT / "benchmarks").glob("[a-z]*.py"):
        assert f"\n  {file.stem}" in done.stderr


def test_everything_is_in_a_full_run() -> None:
    cells = serve.cells_of(serve.make_parser().parse_args(["--full"]))
    assert {cell.scenario for cell in cells} == {*SCENARIOS}
    assert {cell.connections for cell in cells} >= {1, 32, 256}
    assert {cell.processes for cell in cells} == {1, 2}
    assert len({cell.title for cell in cells}) == len(cells) == len(FULL)


@pytest.mark.parametrize("program", [serve, profile])
def test_it_tells_its_options(program: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["--help"])  # type: ignore[attr-defined]
    assert "--only" in capsys.readouterr().out
