"""Made-up visit files: who comes to a place, on which days, and for which hours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from fusionkit_datasets.urfc_visits import DATES, DAYS

_SEEN = 0.8  # chance that a phone is seen in an hour that its owner spends at the place


@dataclass(frozen=True)
class Kind:
    """A kind of people.

    Args:
        weekday, weekend, holiday: how often they come on such a day, from 0 to 1.
        start: the hour at which they come, on average.
        stay: for how many hours.
        habit: how far people's own hours differ, as hours around `start`.
        whim: standard deviation of one person's hours from day to day.
        again: whether they come once more, twelve hours later.
        lessons: they come in school terms alone.
    """

    weekday: float
    weekend: float
    holiday: float
    start: float
    stay: float
    habit: float = 1.0
    whim: float = 0.5
    again: bool = False
    lessons: bool = False


KINDS = {
    "resident": Kind(0.14, 0.16, 0.10, start=19, stay=12),
    "officer": Kind(0.16, 0.01, 0.005, start=8.5, stay=9.5),
    "pupil": Kind(0.20, 0.01, 0.005, start=7.5, stay=9, lessons=True),
    "shift worker": Kind(0.12, 0.10, 0.04, start=4, stay=8.5, habit=12),
    "traveller": Kind(0.010, 0.014, 0.040, start=13.5, stay=2.5, habit=7, whim=3),
    "stroller": Kind(0.12, 0.18, 0.18, start=6.5, stay=2, again=True),
    "guest": Kind(0.004, 0.040, 0.060, start=13, stay=4, habit=2.5, whim=1.5),
    "patient": Kind(0.022, 0.006, 0.002, start=9, stay=3, habit=1, whim=1),
    "inpatient": Kind(0.05, 0.05, 0.04, start=0, stay=24),
    "passer-by": Kind(0.008, 0.008, 0.008, start=14, stay=1.5, habit=8),
}

RHYTHMS: dict[str, dict[str, float]] = {
    "home": {"resident": 0.85, "passer-by": 0.15},
    "weekdays": {"officer": 0.65, "pupil": 0.20, "passer-by": 0.15},
    "shifts": {"shift worker": 0.80, "officer": 0.05, "passer-by": 0.15},
    "travel": {"traveller": 0.85, "shift worker": 0.05, "passer-by": 0.10},
    "leisure": {"guest": 0.60, "stroller": 0.25, "passer-by": 0.15},
    "care": {"patient": 0.65, "inpatient": 0.15, "shift worker": 0.10, "passer-by": 0.10},
}
"""Per rhythm, the share that each kind of people has in the days spent at the place."""


def _calendar() -> tuple[np.ndarray, np.ndarray]:
    """Per day: 0 weekday, 1 weekend, 2 holiday; and whether schools teach."""
    date = np.array([f"{day[:4]}-{day[4:6]}-{day[6:]}" for day in DATES], "datetime64[D]")

    def between(first: str, last: str) -> np.ndarray:
        return (date >= np.datetime64(first)) & (date <= np.datetime64(last))

    weekend = np.arange(DAYS) % 7 >= 5
    national_day, new_year = between("2018-10-01", "2018-10-07"), between("2018-12-30", "2019-01-01")
    spring_festival = between("2019-02-04", "2019-02-10")
    teaching = ~between("2019-01-19", "2019-02-24")
    return np.where(national_day | new_year | spring_festival, 2, weekend), teaching


_DAY_KIND, _TEACHING = _calendar()
_NAMES = list(KINDS)
_COME = np.array(  # [kinds, days], the chance to come
    [
        np.array([kind.weekday, kind.weekend, kind.holiday])[_DAY_KIND] * (_TEACHING | (not kind.lessons))
        for kind in KINDS.values()
    ],
    np.float32,
)
_DAYS_EACH = _COME.sum(1)
_SHARES = np.array([[shares.get(name, 0) for name in _NAMES] for shares in RHYTHMS.values()])
_START, _STAY, _HABIT, _WHIM, _AGAIN = (
    np.array([getattr(kind, name) for kind in KINDS.values()]) for name in ("start", "stay", "habit", "whim", "again")
)


def draw_visits(rhythm: int, city: float, random: np.random.Generator) -> bytes:
    """Draw the content of a visit file.

    Args:
        rhythm: index into `RHYTHMS`.
        city: size of the city, 0 to 1: a large one sends more people, and more of them pass by.
        random: where all else comes from.
    """
    shares = _SHARES[rhythm].copy()
    shares[_NAMES.index("passer-by")] += 0.15 * city
    shares = random.dirichlet(40 * shares[shares > 0]) @ np.eye(len(shares))[shares > 0]
    days = 250 * (1 + 2 * city) * random.lognormal(0, 0.25)
    kind = np.repeat(np.arange(len(_NAMES)), random.poisson(shares * days / _DAYS_EACH))
    random.shuffle(kind)

    eager = random.gamma(4, 0.25, (len(kind), 1)).astype(np.float32)
    user, day = np.nonzero(random.random((len(kind), DAYS), np.float32) < _COME[kind] * eager)
    own = _START[kind] + random.uniform(-1, 1, len(kind)) * _HABIT[kind] + random.normal(0, 0.4)
    kind = kind[user]
    start = own[user] + random.normal(0, 1, len(user)) * _WHIM[kind]
    passed = (np.arange(24) - start[:, None]) % np.where(_AGAIN[kind], 12, 24)[:, None]
    there = passed < _STAY[kind][:, None]
    seen = there & (random.random(there.shape, np.float32) < _SEEN)
    hours = seen @ (1 << np.arange(24))

    records: dict[int, list[str]] = {}
    for who, when, bits in zip(user.tolist(), day.tolist(), hours.tolist(), strict=True):
        if bits:
            records.setdefault(who, []).append(f"{DATES[when]}&{_hours(bits)}")
    names = random.bytes(8 * len(records)).hex()
    lines = [f"{names[16 * i : 16 * i + 16]}\t{','.join(visits)}\n" for i, visits in enumerate(records.values())]
    return "".join(lines).encode()


@cache
def _hours(bits: int) -> str:
    return "|".join(f"{hour:02d}" for hour in range(24) if bits >> hour & 1)
