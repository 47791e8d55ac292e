"""`make package`: the same tree gives the same bytes, and what it gives is all that a deployed function needs."""

from __future__ import annotations

import ast
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from infra import package
from snapkeep.deployment import deployment

TIMEOUT_S = 60
POLL_S = 0.05


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What a release is made of, in another folder, laid down in another order by somebody with another mask."""
    root = tmp_path / "tree"
    root.mkdir()
    for name, data in reversed(list(package.contents())):
        file = root / name if name == "requirements.txt" else root / "functions" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(0o600)
        os.utime(file, (1_000_000_000, 1_000_000_000))
    return root


def test_two_builds_of_one_tree_are_the_same_bytes_wherever_and_whenever_it_was_checked_out(tree: Path) -> None:
    assert package.release(tree) == package.release()


def test_what_tools_leave_behind_is_not_in_a_release(tree: Path) -> None:
    before = package.release(tree)
    for name in ("__pycache__/store.cpython-311.pyc", ".store.py.swp", "store.py~", "cli/__init__.py", "web/.DS_Store"):
        file = tree / "functions" / "snapkeep" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"litter")
    (tree / "functions" / "notes.txt").write_bytes(b"litter")
    assert package.release(tree) == before


def test_another_byte_is_another_release(tree: Path) -> None:
    before, _ = package.release(tree)
    file = tree / "functions" / "snapkeep" / "py.typed"
    file.write_bytes(file.read_bytes() + b"\n")
    assert package.release(tree)[0] != before


def test_a_release_holds_the_functions_and_their_requirements_and_no_command_line() -> None:
    names = [name for name, _ in package.contents()]
    assert {"main.py", "requirements.txt", "snapkeep/__init__.py", "snapkeep/web/assets/fleet.css"} <= set(names)
    assert names == sorted(set(names))
    assert [name for name in names if name.startswith("snapkeep/cli/") or "test" in Path(name).parts] == []
    assert {name.split("/")[0] for name in names} == {"main.py", "requirements.txt", "snapkeep"}


def test_nothing_in_a_release_imports_what_was_left_out_of_it() -> None:
    left_out = tuple(path.removesuffix("/").removesuffix(".py").replace("/", ".") for path in package.LEFT_OUT)
    for name, data in package.contents():
        if name.endswith(".py"):
            assert [module for module in imported(data) if module.startswith((*left_out, "snapkeep_local"))] == [], name


def imported(source: bytes) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# The framework as a deployment starts it, without the editable install of this tree, which no deployment has.
SERVE = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
from functions_framework._cli import _cli
_cli()
"""


@contextmanager
def serving(folder: Path, entry_point: str, signature: str) -> Iterator[str]:
    """A function of the release that lies unpacked in `folder`, started from there; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SNAPKEEP_", "PYTHON"))}
    environment |= {"SNAPKEEP_PROJECT": "p", "SNAPKEEP_IAP_AUDIENCE": "/projects/1/global/backendServices/2"}
    with (folder.parent / "log").open("w") as log:
        process = subprocess.Popen(  # noqa: S603 - the program above
            [
                *(sys.executable, "-c", SERVE, "--source", "main.py", "--target", entry_point),
                *("--signature-type", signature, "--host", "127.0.0.1", "--port", str(port)),
            ],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + TIMEOUT_S
        while not answers(url):
            said = (folder.parent / "log").read_text()
            assert process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(POLL_S)  # a real process starts in real time
        yield url
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


def answers(url: str) -> bool:
    try:
        requests.get(url, timeout=TIMEOUT_S)
    except requests.ConnectionError:
        return False
    return True


@pytest.mark.parametrize("function", ["web", "reconcile"])
def test_a_function_starts_from_an_unpacked_release_and_nothing_else(tmp_path: Path, function: str) -> None:
    _, whole = package.release()
    (tmp_path / "release.zip").write_bytes(whole)
    folder = tmp_path / "empty"
    with zipfile.ZipFile(tmp_path / "release.zip") as packed:
        assert packed.testzip() is None
        assert {entry.compress_type for entry in packed.infolist()} == {zipfile.ZIP_STORED}
        packed.extractall(folder)
    of = deployment().functions[function]
    with serving(folder, of.entry_point, "cloudevent" if of.topic else "http") as url:
        if of.topic:
            # A message that names no topic and holds nothing: the framework answers, the function was found.
            assert requests.post(url, json={}, timeout=TIMEOUT_S).status_code == 400
        else:
            assert requests.get(f"{url}/api/v1/fleet", timeout=TIMEOUT_S).status_code == 401
    used = {file.relative_to(folder).parts[0] for file in folder.rglob("*.pyc")}
    assert "snapkeep" in used, "the function's code came from somewhere else than the release"


def test_a_release_without_a_module_that_a_function_needs_does_not_start(tmp_path: Path) -> None:
    _, whole = package.release()
    (tmp_path / "release.zip").write_bytes(whole)
    folder = tmp_path / "empty"
    with zipfile.ZipFile(tmp_path / "release.zip") as packed:
        packed.extractall(folder)
    shutil.rmtree(folder / "snapkeep" / "retention")
    with pytest.raises(AssertionError, match=r"No module named 'snapkeep\.retention'"), serving(folder, "web", "http"):
        pass
