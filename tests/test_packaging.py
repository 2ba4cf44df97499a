"""What travels in the wheel, and that it works elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment: our wheel installed, everything else borrowed from the present one."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    target = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    Path(target, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run(python: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EIR_SEQ"))}
    command = [str(python), "-m", "eir_seq", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=500)


def files_of(folder: Path) -> set[str]:
    """All files below, by their path from `folder`, without what Python and editors leave behind."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if "__pycache__" not in path.parts and not path.name.startswith(".")}


def test_the_wheel_holds_the_package_and_its_configs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {f"eir_seq/{name}" for name in files_of(ROOT / "eir_seq")}
    expected |= {f"eir_seq/conf/{name}" for name in files_of(ROOT / "conf")}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {"eir_seq/conf/config.yaml", "eir_seq/samples/reviews.csv.gz", "eir_seq/py.typed"} <= names


def test_the_installed_package_composes_its_own_experiment_from_another_directory(
    installed: Path, tmp_path: Path
) -> None:
    done = run(installed, tmp_path, "--cfg", "job", "+experiment=imdb_longformer")
    assert done.returncode == 0, done.stderr
    assert "model_type: longformer" in done.stdout
    where = subprocess.run(
        [installed, "-c", "import eir_seq; print(eir_seq.__file__)"], cwd=tmp_path, capture_output=True, text=True
    ).stdout
    assert where.startswith(str(installed.parents[1]))


def test_the_users_own_conf_is_found_before_the_shipped_one(installed: Path, tmp_path: Path) -> None:
    mine = tmp_path / "conf" / "experiment" / "imdb_longformer.yaml"
    mine.parent.mkdir(parents=True)
    text = (ROOT / "conf" / "experiment" / mine.name).read_text()
    mine.write_text(re.sub(r"max_length: \d+", "max_length: 77", text))
    done = run(installed, tmp_path, "--cfg", "job", "+experiment=imdb_longformer")
    assert done.returncode == 0, done.stderr
    assert "max_length: 77" in done.stdout


@pytest.mark.slow
def test_the_installed_package_trains(installed: Path, tmp_path: Path) -> None:
    done = run(
        installed,
        tmp_path,
        "+experiment=imdb_longformer",
        "trainer=try",
        "data.limit=64",
        "data.validation=0.25",
        f"data.cache_dir={tmp_path / 'cache'}",
        "run.dir=here",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here" / "report" / "index.html").is_file()
    assert (tmp_path / "here" / "result.json").is_file()


def test_constraints_pin_every_dependency_and_agree_with_the_makefile() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    project = (ROOT / "pyproject.toml").read_text()
    ours = re.findall(r'^    "([\w-]+)(?:\[\w+\])?>=', project, re.MULTILINE)
    known = {name.lower().replace("_", "-") for name in pins}
    assert ours
    assert {name.lower().replace("_", "-") for name in ours} <= known
    assert f"torch=={pins['torch']}" in (ROOT / "Makefile").read_text()
    assert f"transformers=={pins['transformers']}" in project
