"""Which builds a process may load, and which one it uses. No build is needed, or made, here."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from eir_seq.commands import main
from eir_seq.errors import UserError
from eir_seq.native import library
from eir_seq.native.library import Build, Key


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, which others cannot write; nothing is demanded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(library.SWITCH, raising=False)
    library.forget()
    builds = library.folder_of_builds()
    builds.mkdir(parents=True, mode=0o700)
    yield builds
    library.forget()


def make(folder: Path, name: str, *, made: float = 0.0, key: Key | None = None) -> Build:
    """A build whose library is no library."""
    (folder / name).mkdir(mode=0o700)
    (folder / name / library.LIBRARY).write_bytes(b"no library")
    sha256 = hashlib.sha256(b"no library").hexdigest()
    build = Build(folder / name, key or Key.here(), "g++ 12", sha256, made)
    build.write_manifest()
    return build


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is a build can be loaded."""
    monkeypatch.setattr(library, "_problem", Build.problem)


@pytest.mark.usefixtures("loads")
def test_the_newest_build_that_fits_is_used(folder: Path) -> None:
    assert library.chosen() is None
    here = Key.here()
    make(folder, "older", made=1)
    newest = make(folder, "newest", made=2)
    for name, key in (
        ("torch", replace(here, torch="1.0")),
        ("source", replace(here, source="0")),
        ("processor", replace(here, processor="0")),
    ):
        make(folder, name, made=3, key=key)
    (folder / "empty").mkdir()
    make(folder, "damaged", made=4)
    (folder / "damaged" / library.MANIFEST).write_text("{")
    assert library.chosen() is None, "a process decides once"
    library.forget()
    assert library.chosen() == newest
    assert library.available()
    assert library.use("older")
    assert library.chosen() != newest
    assert not library.use("torch")
    assert not library.use("nothing")
    assert library.use(None)
    assert library.chosen() is None


@pytest.mark.usefixtures("loads")
def test_the_switch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.SWITCH, "1")
    with pytest.raises(UserError, match=r"EIR_SEQ_NATIVE: no native kernels are built for this torch .* native build"):
        library.chosen()
    make(folder, "build")
    assert library.available()
    library.forget()
    monkeypatch.setenv(library.SWITCH, "0")
    assert not library.available()
    library.forget()
    monkeypatch.setenv(library.SWITCH, "yes")
    with pytest.raises(UserError, match="EIR_SEQ_NATIVE: 'yes' is not 0"):
        library.chosen()


def test_a_build_that_cannot_be_loaded_is_one_line(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(folder, "build")
    with caplog.at_level(logging.WARNING):
        assert library.chosen() is None
    (record,) = caplog.records
    message = record.getMessage()
    assert "cannot be loaded" in message
    assert message.endswith("run: python -m eir_seq native build")
    assert "\n" not in message
    library.forget()
    monkeypatch.setenv(library.SWITCH, "1")
    with pytest.raises(UserError, match="cannot be loaded"):
        library.chosen()


def test_what_others_could_have_written_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    build = make(folder, "build")
    assert build.problem() is None
    for path in (build.folder / library.LIBRARY, build.folder, folder, folder.parent, tmp_path):
        before = path.stat().st_mode
        path.chmod(before | 0o020)
        assert build.problem() == f"{path} can be written by others"
        path.chmod(before)
    tmp_path.chmod(0o1777)  # as /tmp: others may add files there, and not rename mine
    assert build.problem() is None
    tmp_path.chmod(0o700)
    (build.folder / library.LIBRARY).write_bytes(b"another library")
    assert str(build.problem()).endswith("is not what was built")
    (build.folder / library.LIBRARY).unlink()
    assert "No such file" in str(build.problem())


@pytest.mark.skipif(os.getuid() != 0, reason="only an administrator can give files away")
def test_what_belongs_to_others_is_not_loaded(folder: Path) -> None:
    build = make(folder, "build")
    os.chown(folder, 12345, -1)
    assert build.problem() == f"{folder} belongs to another user"


def test_links_are_followed_before_they_are_judged(folder: Path, tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    make(open_to_all, "build")
    (folder / "build").symlink_to(open_to_all / "build")
    (build,) = library.builds()
    assert build.problem() == f"{open_to_all} can be written by others"


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["native", "status"]) == 0
    assert "to build native kernels: python -m eir_seq native build" in capsys.readouterr().out
    make(folder, "fits")
    make(folder, "other", key=replace(Key.here(), torch="1.0"))
    assert main(["native", "clean"]) == 0
    assert "removed 1 build" in capsys.readouterr().out
    assert [build.name for build in library.builds()] == ["fits"]
    assert main(["native", "clean", "--all"]) == 0
    assert library.builds() == []
    assert main(["native", "bild"]) == 2
    assert "invalid choice: 'bild'" in capsys.readouterr().err


def test_a_machine_without_a_compiler(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eir_seq.commands.native.is_installed", lambda package: True)
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main(["native", "build"]) == 2
    assert "'no-such-compiler' cannot be started; install g++ or clang++" in capsys.readouterr().err
    monkeypatch.setattr("eir_seq.commands.native.is_installed", lambda package: False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert main(["native", "build"]) == 2
    assert "ninja is not installed; run: pip install 'eir_seq[native]'" in capsys.readouterr().err


@pytest.mark.slow
def test_build(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ninja")
    assert main(["native", "build"]) == 0
    assert ": built by" in capsys.readouterr().out
    assert library.available()
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [library.MANIFEST, library.LIBRARY]
    assert main(["native", "build"]) == 0
    assert "was built before" in capsys.readouterr().out
    assert main(["native", "status"]) == 0
    assert "runs use" in capsys.readouterr().out
    monkeypatch.setattr("eir_seq.native.build.FLAGS", ("-O1", "-march=native", "-Wno-psabi"))
    assert main(["native", "clean", "--all"]) == 0
    assert main(["native", "build"]) == 0, "a library of that name is loaded in this process"
    assert ": built by" in capsys.readouterr().out
    monkeypatch.setattr("eir_seq.native.build.FLAGS", ("-no-such-flag",))
    assert main(["native", "clean", "--all"]) == 0
    assert main(["native", "build"]) == 3
    assert "cannot be compiled" in capsys.readouterr().err
    assert "-no-such-flag" in (folder / "build.log").read_text()
    assert library.builds() == []
