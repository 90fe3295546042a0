"""Containers, services and jobs from the paths of cgroups."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from carbon_ops.export.cgroups import Cgroups, Unit, is_unit, name, pods

ID = "0123456789abcdef" * 4
UID = "0dc5b5c6-3a5f-4f2b-9c1e-0123456789ab"
UNDER = UID.replace("-", "_")

PATHS = {
    f"/kubepods/burstable/pod{UID}/{ID}": Unit(ID, UID, ""),
    f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDER}.slice/cri-containerd-{ID}.scope": Unit(
        ID, UID, ""
    ),
    f"/kubepods.slice/kubepods-pod{UNDER}.slice/crio-{ID}.scope": Unit(ID, UID, ""),
    f"/system.slice/docker-{ID}.scope": Unit(ID, "", ""),
    f"/docker/{ID}": Unit(ID, "", ""),
    f"/machine.slice/libpod-{ID}.scope/container": Unit(ID, "", ""),
    f"/../cri-containerd-{ID}.scope": Unit(ID, "", ""),
    "/system.slice/ssh.service": Unit("/system.slice/ssh.service", "", ""),
    f"/kubepods.slice/kubepods-pod{UNDER}.slice/crio-conmon-{ID}.scope": Unit(
        f"/kubepods.slice/kubepods-pod{UNDER}.slice/crio-conmon-{ID}.scope", UID, ""
    ),
}


@pytest.mark.parametrize(("path", "unit"), PATHS.items(), ids=range(len(PATHS)))
def test_a_path_names_container_and_pod(path: str, unit: Unit) -> None:
    assert name(path) == unit


def test_units_do_not_contain_one_another() -> None:
    assert is_unit("ssh.service")
    assert is_unit(f"docker-{ID}.scope")
    assert is_unit("job_4711")
    assert not is_unit("system.slice")
    assert not is_unit("node1_slurmstepd.scope")  # every job of the node is below


def write(root: Path, path: str, usec: int) -> None:
    """Lay out one cgroup of version 2 with its CPU time."""
    folder = root / path.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.stat").write_text(f"usage_usec {usec}\nuser_usec 0\n")


def test_what_each_unit_used_between_two_looks(tmp_path: Path) -> None:
    pod = f"kubepods.slice/kubepods-pod{UNDER}.slice"
    container = f"{pod}/cri-containerd-{ID}.scope"
    logs = tmp_path / "logs"
    (logs / f"shop_cart-7f_{UID}").mkdir(parents=True)
    root = tmp_path / "cgroup"
    for path, usec in (
        (container, 500),
        (f"{container}/inner", 400),
        ("system.slice/a.service", 9),
        ("user.slice/leaf", 7),
    ):
        write(root, path, usec)
    cgroups = Cgroups(str(root), str(logs))
    assert cgroups.used() == {}
    write(root, container, 800)
    write(root, "system.slice/a.service", 2)  # another one of the same name
    write(root, "system.slice/new.service", 30)
    (root / "user.slice/leaf/cpu.stat").unlink()
    (root / "user.slice/leaf").rmdir()
    assert cgroups.used() == {
        str(root / container): 300_000,
        str(root / "system.slice/a.service"): 2_000,
        str(root / "system.slice/new.service"): 30_000,
    }
    assert cgroups.unit(str(root / container)) == Unit(ID, "cart-7f", "shop")
    assert set(cgroups) == {
        str(root / path)
        for path in (container, "system.slice/a.service", "system.slice/new.service")
    }


@pytest.mark.parametrize("below", ["", "a.slice/"], ids=["unit", "folder"])
def test_one_that_takes_the_place_of_another_is_seen_at_once(
    tmp_path: Path, below: str
) -> None:
    """As many folders as before stand in the folder above."""
    write(tmp_path, f"system.slice/{below}a.service", 100)
    write(tmp_path, "system.slice/stays.service", 100)
    cgroups = Cgroups(str(tmp_path))
    cgroups.used()
    gone = tmp_path / "system.slice" / (below or "a.service")
    shutil.rmtree(gone)
    write(tmp_path, f"system.slice/{below.replace('a', 'b')}b.service", 30)
    write(tmp_path, "system.slice/stays.service", 120)
    name_ = f"system.slice/{below.replace('a', 'b')}b.service"
    assert cgroups.used() == {
        str(tmp_path / name_): 30_000,
        str(tmp_path / "system.slice/stays.service"): 20_000,
    }


def test_folders_are_listed_anew_only_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.stat(tmp_path).st_nlink < 2:
        pytest.skip("this file system does not count folders, as btrfs")
    listed: list[str] = []
    scandir = os.scandir

    def counting(path: str) -> Any:
        listed.append(path)
        return scandir(path)

    for number in range(5):
        write(tmp_path, f"pods.slice/pod{number}.slice/a.service", 10)
    cgroups = Cgroups(str(tmp_path))
    cgroups.used()
    monkeypatch.setattr(os, "scandir", counting)
    cgroups.used()
    assert listed == []
    write(tmp_path, "pods.slice/pod3.slice/b.service", 10)
    assert cgroups.used() == {str(tmp_path / "pods.slice/pod3.slice/b.service"): 10_000}
    assert listed == [str(tmp_path / "pods.slice/pod3.slice")]


def test_no_cgroups_and_no_logs_are_no_trouble(tmp_path: Path) -> None:
    assert Cgroups(str(tmp_path / "none")).used() == {}
    assert pods(str(tmp_path / "none")) == {}
