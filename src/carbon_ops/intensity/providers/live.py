"""What every live provider shares: questions, cache, labels, uncertainty, secrets.

A provider says which questions cover a span and reads the answers; all the rest is here,
so that all of them keep one contract. Days are asked for whole, so that the many short
spans of a program share one question.

Uncertainties (k=1, relative): of an average, that between two providers; of a marginal
rate 20 %, because no measurement of one exists; of a forecast or an estimated value 10 %
on top up to 24 h ahead, 15 % beyond (Great Britain's forecasts, 2017 to 2023).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

from carbon_ops import clock
from carbon_ops.errors import InvalidInputError, ProviderError, UnknownRegionError
from carbon_ops.http import HttpClient, Reply, Secret
from carbon_ops.intensity import series
from carbon_ops.intensity.base import (
    Accounting,
    FactorBasis,
    Gas,
    Intensity,
    Series,
    Signal,
)
from carbon_ops.intensity.cache import Cache, Stored
from carbon_ops.intensity.region import resolve
from carbon_ops.intensity.series import Kind, Point
from carbon_ops.intensity.static import AVERAGE_SOURCE, average_cv_of
from carbon_ops.units import DAY_NS

MARGINAL_CV = 0.20
MARGINAL_SOURCE = (
    "no measurement of a marginal rate exists: 0.20 by agreement of models"
)
NEAR_CV, FAR_CV = 0.10, 0.15
NEAR_NS = DAY_NS
SETTLED_NS = 3 * DAY_NS  # older values are not revised any more
MOST_SPAN_NS = 400 * DAY_NS
REFUSED = (401, 403)


class Labels(NamedTuple):
    """What a provider's factors count."""

    signal: Signal
    factor_basis: FactorBasis
    accounting: Accounting
    gas: Gas


class Question(NamedTuple):
    """One request: where, with which public parameters, about what time."""

    path: str
    params: dict[str, str]
    zone: str
    end_ns: int | None  # None: about now, so it is never settled


class Answer(NamedTuple):
    """What one reply said."""

    points: list[Point]
    version: str = ""
    flags: tuple[str, ...] = ()


class LiveProvider(ABC):
    """A provider behind HTTP.

    Args:
        base_url: Another server than the provider's own, a proxy or a test's.
        cache: Where replies are kept; the user's cache folder when left out.
    """

    name: str
    base_url: ClassVar[str]
    labels: ClassVar[Labels]
    licence: ClassVar[str]
    version: ClassVar[str]
    publish_s: ClassVar[float]  # how often the provider publishes
    gap_s: ClassVar[float] = 0.0  # what it asks for between two requests

    def __init__(
        self, *, base_url: str | None = None, cache: Cache | None = None
    ) -> None:
        self._url = base_url or self.base_url
        self._http = HttpClient(self._url, gap_s=self.gap_s)
        self._cache = cache or Cache()

    def close(self) -> None:
        self._http.close()

    # --- what a provider fills in ---------------------------------------------------

    def zone_of(self, region: str) -> str:
        """Return the provider's own name of a region, or raise UnknownRegionError."""
        country = resolve(region).country
        if country is None:
            raise UnknownRegionError(f"{self.name} has no zone for {region[:80]!r}")
        return country

    @abstractmethod
    def questions(
        self, zone: str, start_ns: int, end_ns: int, now_ns: int
    ) -> Iterator[Question]:
        """Yield the questions whose answers cover the span."""

    @abstractmethod
    def read(self, question: Question, document: Any) -> Answer:
        """Return what a reply says, checked; raise ProviderError where it lies."""

    def headers(self) -> Mapping[str, Secret]:
        return {}

    def secrets(self) -> Iterable[Secret]:
        """Return what has to be struck out of anything a server says."""
        return self.headers().values()

    # --- the contract ---------------------------------------------------------------

    def kind(self, signal: Signal) -> Kind | None:
        """Return what this provider's factors count, None where it has none."""
        own, basis, _, gas = self.labels
        return Kind(own, basis, gas) if signal == own else None

    def series(
        self, region: str | None, signal: Signal, start_ns: int, end_ns: int
    ) -> Series:
        """Return the factors that cover ``[start_ns, end_ns)``.

        A signal that the provider does not have is a gap (``no_average_signal``), and
        nobody is asked.

        Raises:
            UnknownRegionError: the region means nothing to this provider.
            ProviderError: no usable answer.
            InvalidInputError: a reversed span, or one of more than 400 days.
        """
        if not 0 <= end_ns - start_ns <= MOST_SPAN_NS:
            raise InvalidInputError(
                f"a span of {(end_ns - start_ns) / DAY_NS:g} days cannot be asked for; "
                "0 to 400 days can"
            )
        if region is None:
            raise UnknownRegionError(
                f"{self.name} needs a region", hint="Name one; nothing is guessed."
            )
        zone = self.zone_of(region)
        if signal != self.labels.signal:
            return series.gap(signal, start_ns, end_ns, f"no_{signal}_signal")
        answers, hashes = [], []
        for question in self.questions(zone, start_ns, end_ns, clock.wall_ns()):
            answer, sha256 = self._answer(question)
            answers.append(answer)
            hashes.append(sha256)
        points = [point for answer in answers for point in answer.points]
        template = self._template(zone, answers, points)

        def make(point: Point, grams: float) -> Intensity:
            return series.labelled(template, point, grams, _residual_cv(point))

        found = series.cover(points, start_ns, end_ns, make)
        return Series(signal, found, series.joined(hashes))

    def _template(
        self, zone: str, answers: list[Answer], points: list[Point]
    ) -> Intensity:
        """Return what the factors of one series share, their systematic error too."""
        cv, source = MARGINAL_CV, MARGINAL_SOURCE
        if self.labels.signal == "average":
            values = [p.g_per_kwh for p in points if p.g_per_kwh is not None]
            cv, source = average_cv_of(values), AVERAGE_SOURCE
        versions = sorted({answer.version for answer in answers if answer.version})
        return Intensity(
            g_per_kwh=0.0,
            cv=cv,
            residual_cv=0.0,
            **self.labels._asdict(),
            zone=zone,
            provider=self.name,
            version=" ".join([self.version, *versions]),
            licence=self.licence,
            data_time="",
            uncertainty_source=source,
            flags=tuple(dict.fromkeys(f for a in answers for f in a.flags)),
        )

    def _answer(self, question: Question) -> tuple[Answer, str]:
        from hashlib import sha256

        where = self._url + question.path
        stored = self._cache.get(
            self.name, where, question.params, fresh_s=self.publish_s
        )
        if stored is not None:
            reply = Reply(200, stored.body, where)
            return self.read(question, reply.json()), sha256(stored.body).hexdigest()
        if self._cache.offline:
            raise ProviderError(
                f"{self.name} is offline and {question.path} is not in the cache"
            )
        reply = self.ask(question)
        answer = self.read(question, reply.json())
        now_ns = clock.wall_ns()
        settled = question.end_ns is not None and question.end_ns < now_ns - SETTLED_NS
        stored = Stored(reply.body, now_ns, settled)
        self._cache.put(self.name, where, question.params, stored)
        return answer, sha256(reply.body).hexdigest()

    def ask(self, question: Question) -> Reply:
        """Return the reply to a question; anything but 200 raises."""
        reply = self._http.get(question.path, question.params, self.headers())
        if reply.status != 200:
            raise self.refusal(reply)
        return reply

    def refusal(self, reply: Reply) -> ProviderError:
        """Return the error for a reply that is none, with what the server says."""
        hint = "The key or its plan does not allow this." * (reply.status in REFUSED)
        text = _told(reply)
        for key in self.secrets():
            text = text.replace(key.reveal(), "***")
        return ProviderError(f"{reply.where} answers {reply.status}{text}", hint=hint)


def _residual_cv(point: Point) -> float:
    """Return the uncertainty of this point alone, relative, k=1."""
    if not point.is_forecast:
        return NEAR_CV if point.is_estimated else 0.0
    issued_ns = point.start_ns if point.issued_ns is None else point.issued_ns
    return NEAR_CV if point.start_ns - issued_ns <= NEAR_NS else FAR_CV


def days(
    start_ns: int, end_ns: int, most: int, until_ns: int | None = None
) -> Iterator[tuple[int, int]]:
    """Yield whole UTC days around a span, at most ``most`` at a time.

    None are yielded beyond the day that holds ``until_ns``.
    """
    at = start_ns - start_ns % DAY_NS
    last = max(end_ns + -end_ns % DAY_NS, at + DAY_NS)
    if until_ns is not None:
        last = min(last, until_ns - until_ns % DAY_NS + DAY_NS)
    while at < last:
        end = min(at + most * DAY_NS, last)
        yield at, end
        at = end


def table(document: Any, where: str) -> dict[str, Any]:
    """Return ``document`` if it is a JSON object; else raise ProviderError."""
    if not isinstance(document, dict):
        raise ProviderError(f"{where} sent a {type(document).__name__}, not an object")
    return document


def rows(document: Any, key: str, where: str) -> list[dict[str, Any]]:
    """Return the list of objects under ``key``; else raise ProviderError."""
    found = table(document, where).get(key)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ProviderError(f"{where} sent no list {key!r} of objects")
    return found


def same_zone(found: object, asked: str, where: str) -> None:
    """Raise ProviderError if a reply speaks of another zone than was asked for."""
    if found is not None and found != asked:
        raise ProviderError(
            f"{where} answered for zone {str(found)[:80]!r}, asked was {asked!r}",
            hint="A provider that guesses the zone from the address of the caller "
            "would give somebody else's grid.",
        )


def _told(reply: Reply) -> str:
    """Return what an error reply says in words, short; nothing from a page."""
    try:
        document = reply.json()
    except ProviderError:
        return ""
    if not isinstance(document, dict):
        return ""
    text = document.get("message") or document.get("error") or document.get("detail")
    if isinstance(text, dict):
        text = text.get("message")
    if not isinstance(text, str):
        return ""
    return ": " + "".join(c if c.isprintable() else " " for c in text[:200])
