"""From embeddings to the observations of one comparison: whose vectors, which side, which labels may be exchanged."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...embeddings import Embeddings, shell_distance
from ...status import Status
from ..statistics.inference import status_of

Array = NDArray[np.float64]
CONTRASTS = ("total", "systematic", "tumor")
SIDES = ("left", "right")
_OTHER = {"left": "right", "right": "left"}
FEWEST = 4
"""Participants a side below which no number means anything."""
_COMPLETE = 0.9  # share of the participants that must have a bundle for it to enter the pooled vector


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Observations of one comparison: ``features`` in units of their channel's spread, NaN where the network gave NaN.

    ``person`` is the participant's place in the arrays of `Roster`. For the tumor contrast ``ipsi`` says which of a
    patient's two observations lies on the tumor's side. Shapes (N, C), (N,) and (N,).
    """

    features: Array
    person: NDArray[np.int64]
    ipsi: NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One comparison to be tested: a row of the table but for the statistic."""

    layer: str
    bundle: str
    hemisphere: str
    region: str
    contrast: str
    sample: Sample | None
    status: Status

    @property
    def people(self) -> NDArray[np.int64]:
        """Places in the arrays of `Roster` of those who take part."""
        return np.empty(0, dtype=np.int64) if self.sample is None else np.unique(self.sample.person)


@dataclass(frozen=True, kw_only=True)
class Roster:
    """Everyone who takes part, and for each the strata within which labels may be exchanged.

    ``place`` says where each of the P participants stands in the arrays of shape (P,). ``side`` is ``left`` or
    ``right``: of patients the tumor's, of controls the one they stand in for; else ``n/a``. ``fold`` says which of a
    fine-tuned model's networks made their vectors.
    """

    place: Mapping[str, int] = field(repr=False)
    patient: NDArray[np.bool_]
    side: NDArray[np.str_]
    fold: NDArray[np.str_]

    @classmethod
    def of(cls, embeddings: Embeddings, rng: np.random.Generator) -> "Roster":
        """List the participants, and let each control stand in for a side in the patients' proportion.

        A control lends the systematic contrast the hemisphere opposite to that side, so that everyone contributes one
        hemisphere and labels can be exchanged within hemispheres. The side is drawn without a look at the features.
        """
        people = embeddings.rows.drop_duplicates("participant_id").sort_values("participant_id")
        patient = (people["group"] == "glioma").to_numpy()
        side = people["tumor_side"].where(people["tumor_side"].isin(SIDES), "n/a").to_numpy(dtype=str).copy()
        fold = people["fold"].to_numpy(dtype=str)
        n_left, n_right = ((side[patient] == one).sum() for one in SIDES)
        share = n_left / max(n_left + n_right, 1)
        for one in np.unique(fold):
            controls = rng.permutation(np.flatnonzero(~patient & (fold == one)))
            n = round(share * len(controls))
            side[controls[:n]], side[controls[n:]] = "left", "right"
        place = {name: number for number, name in enumerate(people["participant_id"].astype(str))}
        return cls(place=place, patient=patient, side=side, fold=fold)

    def strata(self, contrast: str) -> NDArray[np.int64]:
        """Within which labels may be exchanged, for each participant; −1 for those who take no part."""
        words = np.char.add(np.char.add(self.fold, "/"), self.side if contrast == "systematic" else "")
        codes = np.unique(words, return_inverse=True)[1].astype(np.int64)
        if contrast != "total":
            codes[(self.side == "n/a") | (~self.patient & (contrast == "tumor"))] = -1
        return codes

    def labels(self, contrast: str, permutations: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Labels of each participant, observed first, then permuted within strata; shape (P, permutations + 1).

        Total and systematic: who counts as a patient. Tumor: whose two sides change places; the number of left and
        right tumors stays, so an anatomical difference between the hemispheres is the same in every permutation.
        """
        strata = self.strata(contrast)
        observed = self.side == "left" if contrast == "tumor" else self.patient
        made = np.repeat(observed[:, None], permutations + 1, axis=1)
        for stratum in np.unique(strata[strata >= 0]):
            members = np.flatnonzero(strata == stratum)
            made[members, 1:] = rng.permuted(np.repeat(observed[members, None], permutations, axis=1), axis=0)
        return made != observed[:, None] if contrast == "tumor" else made


def cells(embeddings: Embeddings, roster: Roster) -> Iterator[Cell]:
    """Every comparison that the embeddings allow, layer by layer."""
    tables = {region: _tables(embeddings.where(region=region), roster) for region in _regions(embeddings)}
    for layer in embeddings.layers:
        for place, contrast, sample in _samples(layer, tables, roster):
            where = dict(zip(("bundle", "hemisphere", "region"), place, strict=True))
            status = _status(contrast, sample, roster)
            yield Cell(layer=layer, **where, contrast=contrast, sample=sample, status=status)


Place = tuple[str, str]
Comparison = tuple[tuple[str, str, str], str, Sample | None]
"""Bundle, hemisphere and region; the contrast; and its observations."""
Table = Mapping[Place, Array]
"""For each bundle and hemisphere one vector a participant, shape (P, C); rows of NaN where there is none."""


def _regions(embeddings: Embeddings) -> list[str]:
    found = list(dict.fromkeys(embeddings.rows["region"]))
    return [one for one in found if one in ("reference", "mirror", "brain") or shell_distance(one)]


def _tables(embeddings: Embeddings, roster: Roster) -> dict[str, dict[Place, Array]]:
    """Vectors by place; several sessions of a participant are averaged."""
    rows = embeddings.rows
    made: dict[str, dict[Place, Array]] = {layer: {} for layer in embeddings.layers}
    places = rows[["bundle", "hemisphere"]].drop_duplicates().sort_values(["bundle", "hemisphere"])
    who = rows["participant_id"].map(dict(roster.place)).to_numpy(dtype=int)
    for bundle, hemisphere in places.itertuples(index=False):
        here = ((rows["bundle"] == bundle) & (rows["hemisphere"] == hemisphere)).to_numpy()
        count = np.bincount(who[here], minlength=len(roster.place)).astype(float)
        count[count == 0] = np.nan
        for layer, vectors in embeddings.layers.items():
            total = np.zeros((len(roster.place), vectors.shape[1]))
            # NaN of a network must not be taken for a missing region: it becomes infinite here.
            np.add.at(total, who[here], np.where(np.isnan(vectors[here]), np.inf, vectors[here]))
            made[layer][bundle, hemisphere] = total / count[:, None]
    return made


def _samples(layer: str, tables: Mapping[str, Mapping[str, Table]], roster: Roster) -> Iterator[Comparison]:
    reference, mirror = (tables.get(region, {}).get(layer, {}) for region in ("reference", "mirror"))
    yield from _of_bundles(reference, mirror, roster)
    if "brain" in tables:
        yield ("brain", "all", "brain"), "total", _stack(tables["brain"][layer], [("brain", "all")], roster)
    for region in tables:
        if shell_distance(region):
            yield ("all", "all", region), "tumor", _pairs(tables[region][layer], "all", roster, center=False)


def _of_bundles(reference: Table, mirror: Table, roster: Roster) -> Iterator[Comparison]:
    """Each hemisphere, each bundle, and all bundles together."""
    pooled: dict[str, list[Sample | None]] = {contrast: [] for contrast in CONTRASTS}
    for bundle in sorted({bundle for bundle, _ in reference}):
        hemispheres = [hemisphere for name, hemisphere in reference if name == bundle]
        table = dict(reference)
        # A bundle annotated in one hemisphere only is compared with its mirror image, in everyone alike.
        opposite = bundle, _OTHER.get(hemispheres[0], "")
        if len(hemispheres) == 1 and opposite in mirror:
            table[opposite] = mirror[opposite]
        sides = [one for one in SIDES if (bundle, one) in table]
        for hemisphere in hemispheres:
            if hemisphere in SIDES:
                yield (bundle, hemisphere, "reference"), "total", _stack(table, [(bundle, hemisphere)], roster)
        samples = {
            "total": _stack(table, [(bundle, hemisphere) for hemisphere in hemispheres], roster),
            "systematic": _opposite(table, bundle, roster) if len(sides) == 2 else None,
            "tumor": _pairs(table, bundle, roster, center=True) if len(sides) == 2 else None,
        }
        for contrast, sample in samples.items():
            pooled[contrast].append(sample)
            yield (bundle, "all", "reference"), contrast, sample
    for contrast in CONTRASTS:
        yield ("all", "all", "reference"), contrast, _average(pooled[contrast])


def _status(contrast: str, sample: Sample | None, roster: Roster) -> Status:
    """Why a comparison gives no number, or only an indication."""
    if sample is None:
        return Status.UNAVAILABLE
    if not np.isfinite(sample.features).all():
        return Status.NOT_FINITE
    if not sample.features.any():
        return Status.CONSTANT
    people = np.unique(sample.person)
    patients, controls = roster.patient[people].sum(), (~roster.patient[people]).sum()
    # The tumor contrast compares patients with themselves: it stands without controls.
    if patients < FEWEST or (contrast != "tumor" and controls < FEWEST):
        return Status.TOO_FEW
    # With tumors on one side only, the tumor's side and the hemisphere are the same thing.
    if contrast == "tumor" and not all((roster.side[people] == side).any() for side in SIDES):
        return Status.SPLIT_WITHHELD
    return status_of(patients, FEWEST)


def _stack(table: Table, places: list[Place], roster: Roster) -> Sample | None:
    """One vector a participant, the places side by side; participants who lack one of them are left out."""
    if not places or any(place not in table for place in places):
        return None
    vectors = np.concatenate([table[place] for place in places], axis=1)
    there = np.flatnonzero(~np.isnan(vectors).any(axis=1))
    return Sample(features=_comparable(vectors[there], roster.fold[there]), person=there)


def _opposite(table: Table, bundle: str, roster: Roster) -> Sample | None:
    """The hemisphere without the tumor: of each patient, and of each control the one they stand in for."""
    chosen = np.full_like(table[bundle, "left"], np.nan)
    for side in SIDES:
        chosen[roster.side == side] = table[bundle, _OTHER[side]][roster.side == side]
    there = np.flatnonzero(~np.isnan(chosen).any(axis=1))
    stratum = np.char.add(np.char.add(roster.fold, "/"), roster.side)
    return Sample(features=_comparable(chosen[there], stratum[there]), person=there)


def _pairs(table: Table, bundle: str, roster: Roster, *, center: bool) -> Sample | None:
    """Both hemispheres of each patient, less the controls' mean of that hemisphere."""
    if any((bundle, side) not in table for side in SIDES):
        return None
    taking_part = roster.patient & (roster.side != "n/a")
    both = np.stack([table[bundle, side] for side in SIDES])
    there = np.flatnonzero(~np.isnan(both).any(axis=(0, 2)) & taking_part)
    if center:
        with np.errstate(invalid="ignore"):  # what the network could not compute is infinite here
            both = both - _healthy_means(both, roster)
    features = both[:, there].reshape(-1, both.shape[2])
    fold = np.tile(roster.fold[there], 2)
    ipsi = np.concatenate([roster.side[there] == side for side in SIDES])
    return Sample(features=_comparable(features, fold), person=np.tile(there, 2), ipsi=ipsi)


def _healthy_means(both: Array, roster: Roster) -> Array:
    """Controls' mean of each hemisphere, for every participant that of their own fold; 0 where there is no control."""
    means = np.zeros_like(both)
    for fold in np.unique(roster.fold):
        controls = both[:, ~roster.patient & (roster.fold == fold)]
        complete = controls[:, ~np.isnan(controls).any(axis=(0, 2))]
        if complete.shape[1]:
            with np.errstate(invalid="ignore"):
                means[:, roster.fold == fold] = complete.mean(axis=1, keepdims=True)
    return means


def _comparable(features: Array, stratum: NDArray[np.str_]) -> Array:
    """Centered within strata and in units of the remaining spread; channels that do not vary become 0.

    Neither looks at the labels, so both are the same in every permutation.
    """
    if not np.isfinite(features).all() or not len(features):
        return np.where(np.isfinite(features), features, np.nan)
    centered = features.copy()
    for one in np.unique(stratum):
        centered[stratum == one] -= features[stratum == one].mean(axis=0)
    # What is left of a channel that does not vary is rounding: of float32 vectors, 1e-7 of their size.
    spread = np.sqrt((centered**2).mean(axis=0))
    varies = spread > 1e-6 * np.maximum(np.abs(features).max(axis=0), 1e-6)
    return np.where(varies, centered, 0.0) / np.where(varies, spread, 1.0)


def _average(samples: list[Sample | None]) -> Sample | None:
    """Mean over bundles of each participant's vector.

    Bundles that too many participants lack do not enter, and participants who lack one that enters are left out.
    """
    given = [one for one in samples if one is not None]
    n = max((len(one.person) for one in given), default=0)
    width = max((one.features.shape[1] for one in given), default=0)  # midline bundles have half as much to say
    kept = [one for one in given if len(one.person) >= _COMPLETE * n and one.features.shape[1] == width]
    if not kept:
        return None
    # One number an observation, so that the same participant and side are found in every bundle.
    keys = [one.person * 2 + (one.ipsi if one.ipsi is not None else 0) for one in kept]
    shared = keys[0]
    for key in keys[1:]:
        shared = shared[np.isin(shared, key)]
    rows = [np.argsort(key)[np.searchsorted(np.sort(key), shared)] for key in keys]
    features = np.mean([one.features[row] for one, row in zip(kept, rows, strict=True)], axis=0)
    ipsi = kept[0].ipsi
    return Sample(features=features, person=shared // 2, ipsi=None if ipsi is None else shared % 2 == 1)
