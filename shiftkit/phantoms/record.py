"""The files of one phantom participant, the truth among them."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from .. import cohorts
from ..cohorts.layout import read_json, sidecar_path
from ..errors import ConfigError
from ..files import write_json, write_text
from ..images import write_image
from ..types import Volume
from .people import Person
from .render import Rendering, to_template, world


@dataclass(frozen=True, kw_only=True)
class Files:
    """Where a participant of a phantom cohort is written.

    Parameters
    ----------
    root : Path
        The cohort's folder.
    key : str
        The participant.
    """

    root: Path
    key: str

    def _path(self, folder: str, name: str) -> Path:
        return self.root / self.key / folder / f"{self.key}_{name}"

    @property
    def _truth(self) -> Path:
        return self._path("anat", "desc-truth_phantom.json")

    def truth(self) -> dict[str, Any]:
        """What was drawn for the participant."""
        return read_json(self._truth)

    def complete(self, settings: dict[str, object], fields: bool, dwi: bool) -> bool:
        """Whether everything is there, made with the same settings.

        Raises
        ------
        ConfigError
            If it was made with others: two phantoms in one folder would be one cohort of two populations.
        """
        if not self._truth.is_file():  # written last: its presence says that the images are complete
            return False
        found = self.truth().get("settings", settings)
        if found != settings:
            wrong = ", ".join(key for key in settings if found.get(key) != settings[key])
            raise ConfigError(
                f"All participants of a phantom cohort share seed, spacing and profile; {self.key} in {self.root} was "
                f"made with another {wrong}. Choose a new folder, or remove this one."
            )
        wanted = [self._displacement("template")] * fields + [self._path("dwi", "dwi.bvec")] * dwi
        return all(path.is_file() for path in wanted)

    def write(self, person: Person, rendering: Rendering, with_tumor: bool, fields: bool) -> None:
        """Write images, masks, and what was asked for besides."""
        for modality, volume in rendering.images.items():
            path = cohorts.image_path(self.root, self.key, modality)
            write_image(volume, path)
            if modality == "peaks":
                cohorts.write_peaks_sidecar(path)
            if modality == "t1w":
                cohorts.write_image_sidecar(path, skull_stripped=True)
        for bundle, volume in rendering.masks.items():
            write_image(volume, cohorts.mask_path(self.root, self.key, bundle))
        for part, volume in (("tumor", rendering.tumor), ("core", rendering.core)):
            if volume is not None:
                path = cohorts.tumor_path(self.root, self.key, part)
                write_image(volume, path)
                if not with_tumor:
                    write_json(sidecar_path(path), {"Virtual": True})
        if rendering.diffusion is not None:
            self._write_diffusion(rendering)
        if fields:
            self._write_fields(person, rendering, with_tumor)

    def _write_diffusion(self, rendering: Rendering) -> None:
        series = rendering.diffusion
        assert series is not None
        write_image(series.volume, self._path("dwi", "dwi.nii.gz"))
        cohorts.write_image_sidecar(self._path("dwi", "dwi.nii.gz"), skull_stripped=True)
        write_image(series.brain, self._path("dwi", "desc-brain_mask.nii.gz"))
        write_text(self._path("dwi", "dwi.bval"), " ".join(f"{b:g}" for b in series.bvals) + "\n")
        lines = [" ".join(f"{value:.6f}" for value in row) for row in series.bvecs.T]
        write_text(self._path("dwi", "dwi.bvec"), "\n".join(lines) + "\n")

    def _displacement(self, kind: str) -> Path:
        return self._path("anat", f"desc-{kind}_displacement.nii.gz")

    def _write_fields(self, person: Person, rendering: Rendering, with_tumor: bool) -> None:
        volume = next(iter(rendering.images.values()))
        points = world(volume.affine, volume.shape)
        made = {"template": (to_template(points, person, rendering.pose, with_tumor) - points, _TO_TEMPLATE)}
        if person.tumor is not None:
            moved = points - person.tumor.push.to_template(points) if with_tumor else np.zeros_like(points)
            made = {"masseffect": (moved, _MASS_EFFECT)} | made  # the one that tells completeness comes last
        for kind, (field, meaning) in made.items():
            path = self._displacement(kind)
            write_json(sidecar_path(path), {"Units": "mm", "Description": meaning})
            write_image(Volume(array=field.astype(np.float32), affine=volume.affine), path)

    def write_truth(
        self,
        person: Person,
        rendering: Rendering,
        with_tumor: bool,
        distances_mm: dict[str, float],
        scanner: str,
        settings: dict[str, object],
    ) -> None:
        """Write every number that was drawn; fields and streamlines follow from seed, identifier and version."""
        tumor, pose = person.tumor, rendering.pose
        content = {
            "participant_id": person.participant_id,
            "version": version("shiftkit"),
            "settings": settings,
            "age": person.age,
            "sex": person.sex,
            "profile": scanner,
            "t1_contrast": person.t1_contrast,
            **person.drawn,
            "pose": {"offset_mm": pose.offset_mm, "distortion_mm": pose.distortion_mm},
            "tumor_rendered": with_tumor,
            "tumor_side": "n/a",
            "tumor_volume_ml": "n/a",
        }
        if tumor is not None and rendering.tumor is not None and rendering.core is not None:
            content |= {
                "tumor_side": tumor.side,
                "tumor_site": tumor.site,
                "tumor_family": tumor.family,
                "tumor_edema_mm": tumor.edema_mm,
                "tumor_center_mm": tumor.center_mm.tolist(),
                "tumor_radius_mm": tumor.radius_mm,
                "tumor_core_share": tumor.core_share,
                "tumor_mass_share": tumor.mass,
                "tumor_volume_drawn_ml": tumor.volume_ml,
                "tumor_volume_ml": _volume_ml(rendering.tumor),
                "tumor_core_volume_ml": _volume_ml(rendering.core),
                "tumor_bundle_distance_mm": distances_mm,
            }
        write_json(self._truth, content)


_TO_TEMPLATE = "Vector (x, y, z in world RAS+) from a voxel's place in the scan to the same tissue in MNI152."
_MASS_EFFECT = (
    "How far, and where to (x, y, z in world RAS+), the tumor has pushed the tissue that now lies at a voxel; "
    "zero where no tumor is rendered."
)


def _volume_ml(mask: Volume) -> float:
    return round(float(mask.array.sum()) * mask.voxel_volume_ml, 1)
