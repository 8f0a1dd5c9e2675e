"""scripts/bench: the list of benchmarks, and the options of each."""

import subprocess

import pytest

from benchmarks import profile, serve
from benchmarks.load.scenarios import FULL, SCENARIOS
from tests.support.service import ROOT


def test_bench_without_a_name_lists_the_benchmarks() -> None:
    done = subprocess.run([ROOT / "scripts" / "bench"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    for file in (ROOT / "benchmarks").glob("[a-z]*.py"):
        assert f"\n  {file.stem}" in done.stderr


def test_full_run_includes_every_benchmark() -> None:
    cells = serve.cells_of(serve.make_parser().parse_args(["--full"]))
    assert {cell.scenario for cell in cells} == {*SCENARIOS}
    assert {cell.connections for cell in cells} >= {1, 32, 256}
    assert {cell.processes for cell in cells} == {1, 2}
    assert len({cell.title for cell in cells}) == len(cells) == len(FULL)


@pytest.mark.parametrize("program", [serve, profile])
def test_benchmark_help_lists_its_options(
    program: object, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        program.main(["--help"])  # type: ignore[attr-defined]
    assert "--only" in capsys.readouterr().out
