"""Factors from a file of your own, CSV or JSON.

The file says what its factors count, so that nothing has to be assumed: ``signal``,
``factor_basis``, ``accounting``, ``gas`` and ``zone`` are required, ``unit``, ``u_rel``
(relative standard uncertainty, k=1), ``licence`` and ``source`` may follow. In CSV these
are lines ``# key: value`` above the columns, in JSON keys beside ``data``. Rows have
``start``, ``end`` (RFC 3339 with zone) and ``g_per_kwh``, empty or null where there is no
value, and may have ``is_forecast`` and ``is_estimated``.
"""

from __future__ import annotations

import csv
import json
import math
import os
from functools import partial
from itertools import takewhile
from typing import Any, get_args

from carbon_ops.errors import InvalidInputError, ProviderError, UnknownRegionError
from carbon_ops.intensity import series
from carbon_ops.intensity.base import (
    Accounting,
    FactorBasis,
    Gas,
    Intensity,
    Series,
    Signal,
)
from carbon_ops.intensity.series import Kind, Point
from carbon_ops.intensity.static import (
    AVERAGE_SOURCE,
    MARGINAL_CV,
    MARGINAL_SOURCE,
    average_cv_of,
)

MOST_BYTES = 64 * 1024 * 1024
_UNITS = ("g/kWh", "gCO2/kWh", "gCO2e/kWh", "gCO2eq/kWh")
_TRUE, _FALSE = ("1", "true", "yes"), ("", "0", "false", "no", "none")
_LABELS = {
    "signal": get_args(Signal),
    "factor_basis": get_args(FactorBasis),
    "accounting": get_args(Accounting),
    "gas": get_args(Gas),
}


class FileProvider:
    """A file of factors for one zone and one signal.

    Raises:
        InvalidInputError: the file cannot be read or leaves out what it has to say.
        ProviderError: a row holds no time or no intensity.
    """

    name = "file"

    def __init__(self, path: str) -> None:
        from hashlib import sha256

        try:
            with open(path, "rb") as file:
                raw = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise InvalidInputError(f"cannot read {path}: {error.strerror}") from error
        if len(raw) > MOST_BYTES:
            raise InvalidInputError(f"{path} has more than {MOST_BYTES} bytes")
        self._path = path
        self._sha256 = sha256(raw).hexdigest()
        try:
            text = raw.decode("utf-8-sig")
            parse = _json if text.lstrip().startswith("{") else _csv
            about, rows = parse(text)
        except (ValueError, csv.Error, RecursionError) as error:
            raise InvalidInputError(
                f"{path} is neither CSV nor JSON: {error}"
            ) from error
        labels = {key: self._one_of(about, key, _LABELS[key]) for key in _LABELS}
        self._signal: Signal = labels["signal"]
        self._one_of({"unit": _UNITS[0]} | about, "unit", _UNITS)
        self._zone = about.get("zone", "").strip()
        if not self._zone or not self._zone.isprintable():
            raise InvalidInputError(f"{path} does not say its zone")
        self._points: list[Point] = []
        for number, row in enumerate(rows, start=1):
            try:
                self._points.append(_point(row))
            except ProviderError as error:
                raise ProviderError(f"{path}, row {number}: {error}") from error
        cv, source = self._uncertainty(about)
        self._template = Intensity(
            g_per_kwh=0.0,
            cv=cv,
            residual_cv=0.0,
            **labels,
            zone=self._zone,
            provider=self.name,
            version=f"{os.path.basename(path)} sha256:{self._sha256}",
            licence=about.get("licence", "not stated"),
            data_time="",
            uncertainty_source=source,
        )

    def kind(self, signal: Signal) -> Kind | None:
        return series.kind_of(self._template) if signal == self._signal else None

    def series(
        self, region: str | None, signal: Signal, start_ns: int, end_ns: int
    ) -> Series:
        """Return the file's factors over ``[start_ns, end_ns)``.

        Without a region the file's own zone is meant: naming the file chose it.
        """
        if end_ns < start_ns:
            raise InvalidInputError(
                f"span ends {start_ns - end_ns} ns before it starts"
            )
        if region is not None and region.strip().upper() != self._zone.upper():
            raise UnknownRegionError(
                f"{self._path} is about {self._zone}, not {region[:80]!r}"
            )
        if signal != self._signal:
            return series.gap(signal, start_ns, end_ns, f"no_{signal}_signal")
        make = partial(series.labelled, self._template)
        found = series.cover(self._points, start_ns, end_ns, make)
        return Series(signal, found, self._sha256)

    def _one_of(self, about: dict[str, str], key: str, known: tuple[str, ...]) -> Any:
        if about.get(key) not in known:
            raise InvalidInputError(
                f"{self._path}: {key} is {about.get(key)!r:.80}",
                hint=f"Say one of {', '.join(known)}.",
            )
        return about[key]

    def _uncertainty(self, about: dict[str, str]) -> tuple[float, str]:
        given = about.get("u_rel")
        if given is not None:
            try:
                cv = float(given)
            except ValueError:
                cv = math.nan
            if not 0 <= cv <= 10:
                raise InvalidInputError(f"{self._path}: u_rel is {given!r}")
            return cv, "stated in the file"
        if self._signal == "marginal":
            return MARGINAL_CV, f"none stated; by default {MARGINAL_SOURCE}"
        values = [p.g_per_kwh for p in self._points if p.g_per_kwh is not None]
        return average_cv_of(values), f"none stated; by default {AVERAGE_SOURCE}"


def _point(row: dict[str, Any]) -> Point:
    start, end = (series.instant(row.get(key)) for key in ("start", "end"))
    if end <= start:
        raise ProviderError(f"it ends at {row.get('end')!r:.40}, not after its start")
    value = row.get("g_per_kwh")
    marks = [_truth(row.get(key), key) for key in ("is_forecast", "is_estimated")]
    return Point(start, end, series.grams(None if value == "" else value), *marks)


def _truth(value: object, key: str) -> bool:
    text = str(value or "").strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ProviderError(f"{key} is {text[:40]!r}, neither true nor false")


def _json(text: str) -> tuple[dict[str, str], list[dict[str, Any]]]:
    document = json.loads(text)
    rows = document.pop("data", None)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("no list `data` of objects")
    return {key: str(value) for key, value in document.items()}, rows


def _csv(text: str) -> tuple[dict[str, str], list[dict[str, Any]]]:
    lines = text.splitlines()
    head = [line[1:] for line in takewhile(lambda line: line.startswith("#"), lines)]
    pairs = (line.partition(":") for line in head)
    about = {key.strip(): value.strip() for key, _, value in pairs}
    reader = csv.DictReader(lines[len(head) :], restkey="extra")
    missing = {"start", "end", "g_per_kwh"} - set(reader.fieldnames or ())
    if missing:
        raise ValueError(f"no column {', '.join(sorted(missing))}")
    return about, list(reader)
