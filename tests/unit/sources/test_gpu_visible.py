"""Eight ranks of one job each see their own device: visibility decides the count."""

from __future__ import annotations

import pytest

from carbon_ops.sources.gpu import GpuDevice, visible_devices

EIGHT = tuple(
    GpuDevice(n, f"GPU-{n}aaa-bbb", "A100", "nvidia", mig=False) for n in range(8)
)


def seen(value: str | None, **more: str) -> list[int]:
    environ = dict(more)
    if value is not None:
        environ["CUDA_VISIBLE_DEVICES"] = value
    return [d.number for d in visible_devices(EIGHT, environ, "nvidia").devices]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, list(range(8))),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("3", [3]),
        ("5,2", [5, 2]),
        ("0,9,1", [0]),  # CUDA stops at the first invalid entry
        ("0,-1,1", [0]),
        ("GPU-4", [4]),
        ("GPU-4aaa-bbb, GPU-0", [4, 0]),
        ("GPU-", []),  # not unique
        ("MIG-GPU-6aaa-bbb/1/0", [6]),
        ("2,2", [2]),
        ("03", [3]),
        ("²,1", []),  # a digit to str.isdigit, and no number
        ("9" * 5_000, []),  # more digits than int() takes
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(
    value: str | None, expected: list[int]
) -> None:
    assert seen(value) == expected


def test_ranks_share_the_node_without_overlap() -> None:
    ranks = [seen(str(rank)) for rank in range(8)]
    assert sorted(device for rank in ranks for device in rank) == list(range(8))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"ROCR_VISIBLE_DEVICES": "4,5"}, [4, 5]),
        ({"HIP_VISIBLE_DEVICES": "6"}, [6]),
        ({"CUDA_VISIBLE_DEVICES": "7"}, [7]),
        ({"HIP_VISIBLE_DEVICES": "6", "CUDA_VISIBLE_DEVICES": "7"}, [6]),
        # As in a job of four devices whose second rank chose its own.
        ({"ROCR_VISIBLE_DEVICES": "4,5,6,7", "HIP_VISIBLE_DEVICES": "1"}, [5]),
        ({"ROCR_VISIBLE_DEVICES": "4,5", "HIP_VISIBLE_DEVICES": "2"}, []),
    ],
)
def test_amds_second_variable_counts_what_the_first_has_left(
    environ: dict[str, str], expected: list[int]
) -> None:
    amd = [device._replace(vendor="amd") for device in EIGHT]
    got = visible_devices(amd, environ, "amd").devices
    assert [device.number for device in got] == expected


def test_an_index_among_different_cards_is_flagged_unless_ordered_by_bus() -> None:
    mixed = (EIGHT[0], EIGHT[1]._replace(name="V100"))
    environ = {"CUDA_VISIBLE_DEVICES": "1"}
    assert visible_devices(mixed, environ, "nvidia").flags == (
        "cuda_device_order_assumed",
    )
    environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    assert visible_devices(mixed, environ, "nvidia").flags == ()


def test_a_bare_mig_name_is_flagged_not_guessed() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"}
    got = visible_devices(EIGHT, environ, "nvidia")
    assert got.devices == ()
    assert got.flags == ("mig_device_unknown",)
