"""Which CPU limit binds a process, on trees like those of version 2 and version 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbon_ops.sources.cgroup import CpuLimit, cpu_limit

USAGE = "usage_usec 7000\nuser_usec 4000\nsystem_usec 3000\n"


class Tree:
    """A ``/sys/fs/cgroup`` and the ``/proc/PID/cgroup`` of one process in it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.root.mkdir()
        self._own = folder / "own"

    def v2(self, path: str, limit: str | None, usage: str | None = USAGE) -> None:
        """Make a cgroup of version 2; the real root has no ``cpu.max``."""
        self._make(path, {"cpu.max": limit, "cpu.stat": usage})

    def v1(self, path: str, quota: str, period: str = "100000") -> None:
        """Make one of version 1, whose ``cpu.stat`` has no usage."""
        files = {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": period}
        self._make(path, {**files, "cpu.stat": "nr_periods 0\n"})

    def v1_usage(self, path: str) -> None:
        self._make(path, {"cpuacct.usage": "9000000\n"})

    def _make(self, path: str, files: dict[str, str | None]) -> None:
        place = self.root / path.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            if text is not None:
                (place / name).write_text(text)

    def limit(self, own: str) -> CpuLimit | None:
        self._own.write_text(own)
        return cpu_limit(str(self._own), str(self.root))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def found(limit: CpuLimit | None, tree: Tree) -> tuple[float, str] | None:
    if limit is None:
        return None
    return limit.cpus, limit.clock.folder.removeprefix(str(tree.root))


def test_the_limit_of_its_own_cgroup_binds_a_process(tree: Tree) -> None:
    tree.v2("/", None)
    tree.v2("/pod", "max 100000\n")
    tree.v2("/pod/a", "150000 100000\n")

    limit = tree.limit("0::/pod/a\n")

    assert found(limit, tree) == (1.5, "/pod/a")
    assert limit is not None
    assert limit.clock.read() == 7_000_000


def test_the_lowest_limit_on_the_way_up_binds_it(tree: Tree) -> None:
    tree.v2("/pod", "50000 50000\n")
    tree.v2("/pod/a", "400000 100000\n")
    tree.v2("/pod/a/b", "max 100000\n")

    assert found(tree.limit("0::/pod/a/b\n"), tree) == (1.0, "/pod")


def test_of_equal_limits_the_outermost_is_meant(tree: Tree) -> None:
    tree.v2("/pod", "200000 100000\n")
    tree.v2("/pod/a", "100000 50000\n")

    assert found(tree.limit("0::/pod/a\n"), tree) == (2.0, "/pod")


def test_a_neighbours_limit_and_a_cgroup_below_are_not_its_own(tree: Tree) -> None:
    tree.v2("/pod", "max 100000\n")
    tree.v2("/pod/a", "max 100000\n")
    tree.v2("/pod/a/below", "10000 100000\n")
    tree.v2("/pod/ab", "10000 100000\n")

    assert tree.limit("0::/pod/a\n") is None


@pytest.mark.parametrize(
    "own", ["0::/\n", "0::/docker/4f1a\n"], ids=["namespace", "host-path"]
)
def test_in_a_container_the_mount_itself_may_be_the_cgroup(
    tree: Tree, own: str
) -> None:
    tree.v2("/", "300000 100000\n")

    assert found(tree.limit(own), tree) == (3.0, "")


@pytest.mark.parametrize("mount", ["/cpu,cpuacct", "/cpu"])
def test_version_1_where_both_controllers_share_a_mount(tree: Tree, mount: str) -> None:
    tree.v1(f"{mount}/job", "-1")
    tree.v1(f"{mount}/job/step", "25000", "50000")
    tree.v1_usage(f"{mount}/job/step")

    limit = tree.limit("9:memory:/x\n3:cpu,cpuacct:/job/step\n0::/\n")

    assert found(limit, tree) == (0.5, f"{mount}/job/step")
    assert limit is not None
    assert limit.clock.read() == 9_000_000


def test_version_1_with_a_mount_for_each(tree: Tree) -> None:
    tree.v1("/cpu/job", "200000")
    tree.v1_usage("/cpuacct/job")
    tree.v1_usage("/cpuacct/other")

    same = tree.limit("2:cpuacct:/job/step\n1:cpu:/job/step\n")
    other = tree.limit("2:cpuacct:/other\n1:cpu:/job/step\n")

    assert found(same, tree) == (2.0, "/cpuacct/job")
    assert other is None  # its CPU time is not that of the limited cgroup


def test_a_cgroup_itself_is_under_the_limits_around_it(tree: Tree) -> None:
    (tree.root / "cgroup.controllers").touch()  # the root of version 2
    tree.v2("/cpu", "150000 100000")  # a name like a mount of version 1
    tree.v2("/cpu/a", "max 100000")
    root = str(tree.root)

    assert found(cpu_limit(f"{root}/cpu/a", root), tree) == (1.5, "/cpu")
    assert cpu_limit(f"{root}/other", root) is None


@pytest.mark.parametrize(
    ("cpu", "clock"),
    [("/cpu", "/cpuacct"), ("/cpu,cpuacct", "/cpu,cpuacct")],
    ids=["apart", "together"],
)
def test_a_cgroup_of_version_1_is_under_the_limits_of_its_namesakes(
    tree: Tree, cpu: str, clock: str
) -> None:
    tree.v1(f"{cpu}/job", "50000")
    tree.v1_usage(f"{clock}/job")
    tree.v1_usage(f"{clock}/job/step")
    root = str(tree.root)

    limit = cpu_limit(f"{root}{clock}/job/step", root)

    assert found(limit, tree) == (0.5, f"{clock}/job")


@pytest.mark.parametrize(
    "text",
    ["max 100000", "max", "", "0 100000", "-5 100000", "5 0", "1 2 3", "ten 100", "\0"],
)
def test_nonsense_is_no_limit(tree: Tree, text: str) -> None:
    tree.v2("/a", text)

    assert tree.limit("0::/a\n") is None


def test_what_cannot_be_read_is_no_limit(tree: Tree) -> None:
    tree.v2("/a", None)
    (tree.root / "a" / "cpu.max").mkdir()  # an error that root gets too
    tree.v2("/b", "100000 100000", usage=None)

    assert tree.limit("0::/a\n") is None
    assert tree.limit("0::/b\n") is None  # how much of it is used, nobody can say
    assert tree.limit("0::/gone (deleted)\n") is None
    assert tree.limit("") is None
    assert tree.limit("one\ntwo:three\n") is None
    assert cpu_limit("/nonexistent", str(tree.root)) is None


def test_a_cgroup_outside_what_the_process_sees_has_no_limit_here(tree: Tree) -> None:
    tree.v2("/", "100000 100000")

    assert tree.limit("0::/../other\n") is None


def test_a_path_that_is_not_text_is_followed(tree: Tree) -> None:
    tree.v2("/", None)
    name = b"\xff\xfe".decode("utf-8", "surrogateescape")
    tree.v2(f"/{name}", "100000 100000")
    (tree.root.parent / "own").write_bytes(b"0::/\xff\xfe\n")

    limit = cpu_limit(str(tree.root.parent / "own"), str(tree.root))

    assert limit is not None
    assert limit.cpus == 1.0
