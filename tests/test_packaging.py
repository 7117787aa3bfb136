"""The repository's frame: imports run one way, the wheel is complete, versions agree."""

import ast
import configparser
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from processes import run

ROOT = Path(__file__).resolve().parent.parent
# where a top-level folder's modules are installed
PACKAGES = {"taichi_sim": "taichi_sim", "assets": "taichi_sim/assets", "shac": "shac", "models": "shac/models"}

# Design: a room may import those of the rows before its own, never those after it, nor one of its own row.
ROOMS = [
    ["taichi_sim.option", "taichi_sim.machine"],
    ["taichi_sim.types"],
    ["taichi_sim.runtime"],
    ["taichi_sim.lanes"],
    ["taichi_sim.spatial"],
    ["taichi_sim.bodies"],
    ["taichi_sim.contact", "taichi_sim.fluid", "taichi_sim.muscles"],
    ["taichi_sim.constraint"],
    ["taichi_sim.loops"],
    ["taichi_sim.records"],
    ["taichi_sim.data"],
    ["taichi_sim.forward"],
    ["taichi_sim.adjoint"],
    ["taichi_sim.engine"],
    ["taichi_sim.readout"],
    ["taichi_sim.bridge"],
    ["shac.task"],
    ["shac.env"],
    ["shac.models", "shac.algos"],
    ["shac.runs"],
    ["shac.film"],
    ["shac.figures"],
    ["shac.gait"],
    ["shac.cli"],
]
# Rooms beside that row: what they may import of the engine.
BESIDE = {
    "taichi_sim.mjcf": {"taichi_sim.option", "taichi_sim.types", "taichi_sim.contact", "taichi_sim.bodies"},
    "taichi_sim.render": {"taichi_sim.types", "taichi_sim.runtime"},
}
# House rules: where a file or a folder is too long to be read.
MOST_LINES, MOST_FILES = 450, 16


def modules() -> dict[str, Path]:
    """Source file by the name under which it is imported."""
    found = {}
    for folder, target in PACKAGES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = Path(target) / path.relative_to(ROOT / folder)
            parts = relative.with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.AST, name: str, is_package: bool) -> set[str]:
    """Dotted names of what a module's import statements bring; `from a import b` brings a.b, relative ones resolved."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".") if is_package else name.split(".")[:-1]
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = [*base, *([node.module] if node.module else [])]
            names |= {".".join([*origin, alias.name]) for alias in node.names}
    return names


def without_functions(tree: ast.Module) -> ast.Module:
    """The statements that run when a module is imported: an import inside of a function runs later."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node):
            return None

        visit_AsyncFunctionDef = visit_FunctionDef

        def visit_If(self, node):
            # what stands under `if TYPE_CHECKING:` never runs
            typing_only = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            return None if typing_only else self.generic_visit(node)

    return Strip().visit(tree)


def graph() -> dict[str, set[str]]:
    """What each module imports of this repository when it is imported."""
    sources = modules()

    def module_of(name: str) -> str:
        # what is not a module itself is an attribute of the one before the dot
        while name and name not in sources:
            name = name.rpartition(".")[0]
        return name

    edges = {}
    for name, path in sources.items():
        tree = without_functions(ast.parse(path.read_text(encoding="utf-8")))
        edges[name] = {module_of(n) for n in imports(tree, name, path.name == "__init__.py")} - {"", name}
    return edges


def reach(edges: dict[str, set[str]], start: str) -> set[str]:
    """Everything that importing `start` imports, directly or not."""
    seen, front = set(), [start]
    while front:
        for name in edges.get(front.pop(), set()) - seen:
            seen.add(name)
            front.append(name)
    return seen


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def test_imports_run_one_way():
    edges = graph()
    missing = [room for row in ROOMS for room in row if not any(within(name, room) for name in edges)]
    assert not missing, f"the rooms are not where this test looks for them: {missing}"
    wrong = [f"{name} imports itself through others" for name in edges if name in reach(edges, name)]
    for row, rooms in enumerate(ROOMS):
        for room in rooms:
            later = [other for rest in ROOMS[row + 1 :] for other in rest] + [r for r in rooms if r != room]
            for name in (n for n in edges if within(n, room)):
                hits = {hit for hit in reach(edges, name) for other in later if within(hit, other)}
                wrong += [f"{name} imports {hit}" for hit in sorted(hits)]
    for room, allowed in BESIDE.items():
        for name in (n for n in edges if within(n, room)):
            others = {hit for hit in edges[name] if hit.startswith("taichi_sim") and hit != "taichi_sim"}
            strangers = {hit for hit in others if not any(within(hit, a) for a in (room, *allowed))}
            wrong += [f"{name} imports {hit}" for hit in sorted(strangers)]
    assert not wrong, "\n".join(wrong)


def test_taichi_is_imported_in_one_place():
    """It would announce itself on standard output if another module came first."""
    found = {
        name
        for name, path in modules().items()
        for x in imports(ast.parse(path.read_text(encoding="utf-8")), name, path.name == "__init__.py")
        if within(x, "taichi")
    }
    assert found == {"taichi_sim.runtime"}


@pytest.mark.parametrize("module", ["taichi_sim", "shac.env", "shac.models", "shac.runs.runner"])
def test_torchs_threads_know_that_they_are_to_rest_when_torch_comes(module, monkeypatch):
    """OpenMP reads it once, then."""
    program = f"""
        import importlib, os, sys
        class Watch:
            def find_spec(self, name, path=None, target=None):
                if name == "torch":
                    sys.exit(os.environ.get("OMP_WAIT_POLICY"))
        sys.meta_path.insert(0, Watch())
        importlib.import_module("{module}")
    """
    # this process has it from its own import
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert run(program, prelude="", status=1).stderr == "PASSIVE\n"


def test_rooms_can_be_overseen():
    folders = [ROOT / folder for folder in (*PACKAGES, "tools")]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    assert len(files) > 80
    long = {path: n for path in files if (n := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES}
    assert not long
    counts = {parent: sum(f.parent == parent for f in files) for parent in {f.parent for f in files}}
    assert not {parent: n for parent, n in counts.items() if n > MOST_FILES}


def test_files_of_tests_have_names_of_their_own():
    """pytest puts each test folder on the path: of two files with one name only the first is found."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert not {name for name in names if names.count(name) > 1}


def test_the_engine_knows_nothing_of_learning():
    for name, path in modules().items():
        if name.startswith("taichi_sim"):
            named = imports(ast.parse(path.read_text(encoding="utf-8")), name, path.name == "__init__.py")
            assert not {n for n in named if n.split(".")[0] == "shac"}, path


def test_grafted_folders_are_imported_under_their_installed_names():
    files = [path for folder in (*PACKAGES, "tests", "tools") for path in sorted((ROOT / folder).rglob("*.py"))]
    assert files
    for path in files:
        tops = {n.split(".")[0] for n in imports(ast.parse(path.read_text(encoding="utf-8")), "-", False)}
        # imported bare, one file would be loaded under two names, and only where the checkout is the current folder
        assert not tops & {"models", "assets", "tools"}, path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel, built from a copy so that the checkout stays as it is."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in PACKAGES:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(source / "dist"),
        str(source),
    ]
    build = subprocess.run(command, capture_output=True, text=True, cwd=source)
    assert build.returncode == 0, build.stdout + build.stderr
    with zipfile.ZipFile(next((source / "dist").glob("*.whl"))) as file:
        yield file


def test_the_wheel_holds_every_module_and_asset_and_nothing_else(wheel):
    expected = {
        (Path(target) / path.relative_to(ROOT / folder)).as_posix()
        for folder, target in PACKAGES.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "taichi_sim/assets/cartpole.xml" in expected
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == expected


def test_versions_agree(wheel):
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    version = config["metadata"]["version"]
    assert importlib.metadata.version("taichi-sim") == version, "stale installation: pip install -e ."
    metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    assert f"\nVersion: {version}\n" in wheel.read(metadata).decode()
    assert f"[{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for path in modules().values():
        literal = re.search(r'^__version__ = "(.*)"', path.read_text(encoding="utf-8"), re.MULTILINE)
        assert literal is None or literal.group(1) == version, path


def test_commands_exist(wheel):
    entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    scripts = re.findall(r"^([\w-]+) = ([\w.]+):(\w+)$", wheel.read(entry_points).decode(), re.MULTILINE)
    assert {name for name, _, _ in scripts} == {"shac-train", "shac-eval", "shac-render", "shac-figure", "shac-gait"}
    sources = modules()
    for command, module, function in scripts:
        assert module in sources, f"{command}: there is no module {module}"
        tree = ast.parse(sources[module].read_text(encoding="utf-8"))
        assert any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body), command
