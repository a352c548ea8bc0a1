"""The tables that shiftkit publishes, one definition a table, one line a column; what several share stands once."""

from collections.abc import Mapping
from dataclasses import replace

from .status import Status
from .tables import Column, Table

TABLES: dict[str, Table] = {}
"""Every table by its name."""


Columns = Mapping[str, str | Column]
"""Columns by their names; a bare description is that of a column of text."""


def _number(description: str, unit: str = "1") -> Column:
    return Column(description, kind="number", unit=unit)


_SHARED: Columns = {
    "participant_id": "Participant, with the prefix sub-.",
    "cohort": "Cohort the participant belongs to.",
    "group": "control, glioma or target_control.",
    "side": "ipsi, contra or bilateral, relative to the tumor; n/a for controls.",
    "model": "Name of the model.",
    "modality": "Input of the model.",
    "layer": "Layer of the network.",
    "bundle": "Bundle name; 'all' on pooled rows.",
    "hemisphere": "left, right or none; 'all' on pooled rows.",
    "metric": "Name of the metric.",
    "strategy": "Transfer strategy; 'none' is the source model as it is.",
    "low": _number("Lower end of the interval."),
    "high": _number("Upper end of the interval."),
    "p_value": _number("Permutation p-value, (b+1)/(B+1)."),
    "p_adjusted": _number("p-value adjusted over bundles."),
    "n_patients": _number("Patients behind the estimate."),
    "status": "Why a value is or is not given: one of " + ", ".join(Status) + ".",
    "percentile": _number("Percentile in the healthy range."),
    "z": _number("z-score in the healthy range."),
    "range_status": "Why percentile and z are given or not: constant where controls do not vary.",
    "n_controls": _number("Controls behind percentile and z."),
    "unit": "Unit of the value.",
}
"""Columns that mean the same in several tables."""


def _shared(names: str) -> Columns:
    return {name: _SHARED[name] for name in names.split()}


def _optional(columns: Columns) -> Columns:
    return {name: replace(_column(column), required=False) for name, column in columns.items()}


def _percentiles(prefix: str, of: str) -> Columns:
    return {
        f"{prefix}_p{q:02}_mm": _number(f"{q}th percentile of that {of} over the bundle's voxels.", "mm")
        for q in (5, 25, 50, 75, 95)
    }


def _column(column: str | Column) -> Column:
    return Column(column) if isinstance(column, str) else column


def _table(name: str, description: str, columns: Columns) -> Table:
    TABLES[name] = Table(name, description, {key: _column(column) for key, column in columns.items()})
    return TABLES[name]


SCORES = _table(
    "scores",
    "One row a participant, bundle, hemisphere and metric.",
    {
        **_shared("participant_id cohort group model modality bundle hemisphere side metric"),
        "value": _number("Value of the metric; n/a where status says why."),
        **_shared("unit status"),
        "tumor_distance_mm": _number("Edge-to-edge distance from tumor mask to reference bundle mask.", "mm"),
        **_optional(
            {
                "session": "Session, n/a where there is one only.",
                "tolerance_mm": _number("Tolerance of nsd; n/a for other metrics.", "mm"),
                "penalty_mm": _number("What a distance is for a missed bundle; n/a for other metrics.", "mm"),
                "tumor_distance_mean_mm": _number("Mean distance to the tumor over the bundle's voxels.", "mm"),
                **_percentiles("tumor_distance", "distance"),
                "tumor_core_distance_mm": _number("Edge-to-edge distance from the tumor core.", "mm"),
                "tumor_overlap_ml": _number("Part of the reference bundle inside the tumor mask.", "ml"),
                "tumor_volume_ml": _number("Volume of the tumor mask.", "ml"),
                "tumor_side": "left, right or bilateral.",
                "age": _number("Age.", "years"),
                "sex": "Sex.",
                "site": "Site.",
                "scanner": "Scanner.",
                "seen": "yes if the model was trained or tuned on this participant, else no.",
            }
        ),
    },
)
DECOMPOSITION = _table(
    "decomposition",
    "The drop in performance of patients and its parts; positive means worse in patients.",
    {
        **_shared("model modality bundle hemisphere metric"),
        "method": "regression, hemispheric or shell.",
        "component": "total, systematic, tumor, interaction, residual or raw.",
        "estimate": _number("Point estimate on the metric's own scale."),
        **_shared("low high p_value p_adjusted n_patients"),
        "n_controls": _number("Controls behind the estimate."),
        **_shared("status"),
    },
)
RECOVERY = _table(
    "recovery",
    "What fine-tuning repairs of each component.",
    {
        "model": "Name of the fine-tuned model.",
        "strategy": "Transfer strategy.",
        **_shared("modality bundle metric"),
        "component": "total, systematic, tumor or forgetting.",
        "before": _number("Component of the source model."),
        "after": _number("Component of the fine-tuned model."),
        "recovered": _number("(before - after) / before; n/a where the interval of before includes 0."),
        **_shared("low high status"),
    },
)
SHOTS = _table(
    "shots",
    "Out-of-fold Dice of every fine-tuning with so many patients.",
    {
        **_shared("strategy"),
        "shots": _number("Patients trained on in each fold, those that choose the epoch included; 0 for 'none'."),
        "draw": _number("Which random choice of them, from 0."),
        **_shared("bundle hemisphere"),
        "dice": _number("Mean Dice over patients; on pooled rows of each patient's mean over bundles."),
        "n_patients": _number("Patients behind the mean."),
        **_shared("status"),
    },
)
CURVES = _table(
    "learning_curves",
    "Dice against the number of patients trained on, with intervals over the patients that were scored.",
    {
        **_shared("strategy"),
        "shots": _number("Patients trained on in each fold; 0 for 'none'."),
        "quantity": "dice; gain_over_zero_shot: less the source model's; gain_over_scratch: less that of training from "
        "random weights on the same patients.",
        "value": _number("Mean over patients, each averaged over bundles and draws."),
        **_shared("low high"),
        "n_patients": _number("Patients behind the mean."),
        "n_draws": _number("Random choices of training patients that were averaged."),
        **_shared("status"),
    },
)
FEATURES = _table(
    "features",
    "Shift between feature distributions, by layer and region.",
    {
        **_shared("model modality layer bundle hemisphere"),
        "contrast": "total, systematic or tumor.",
        **_optional({"region": "reference, brain, or a tumor-distance shell in mm."}),
        "statistic": "mmd2, energy, sliced_wasserstein, frechet, auc or proxy_a_distance.",
        "value": _number("Value of the statistic."),
        **_optional({"by_chance": _number("Mean of the statistic over permutations: what there is without a shift.")}),
        **_shared("low high p_value p_adjusted"),
        "n_source": _number("Participants on the source side."),
        "n_target": _number("Participants on the target side."),
        **_shared("status"),
    },
)
DIRECTIONS = _table(
    "directions",
    "The channels that carry the systematic and the tumor contrast, all bundles together.",
    {
        **_shared("model modality layer"),
        "contrast": "systematic or tumor.",
        "channel": _number("Channel of the layer, from 1."),
        "difference": _number("Difference of means in units of the channel's spread."),
        "share": _number("Its part of the squared length of all channels' differences."),
        "p_adjusted": _number("p-value adjusted over the layer's channels."),
        **_shared("status"),
    },
)
CKA = _table(
    "cka",
    "How much fine-tuning changed each layer, on the same participants.",
    {
        "source": "Name of the source model.",
        **_shared("model modality layer"),
        "cka": _number("Unbiased linear CKA of the two models' features; 1 is unchanged up to rotation and scale."),
        **_shared("low high"),
        "n": _number("Participants."),
        **_shared("status"),
    },
)
FORESIGHT = _table(
    "foresight",
    "Feature shift of each patient and bundle, taken without labels, and the drop in performance.",
    {
        **_shared("participant_id model modality bundle hemisphere"),
        "side": "ipsi, contra or bilateral, relative to the tumor.",
        "shift": _number("Mean over layers of the log Mahalanobis distance from the controls."),
        "observed": _number("Controls' mean less the patient's value."),
        "predicted": _number("That drop as predicted by a regression fitted to other patients."),
        **_shared("status"),
    },
)
IMAGES = _table(
    "images",
    "What differs between the images themselves, more than 20 mm from the tumor.",
    {
        "modality": "Modality.",
        "channel": "Channel of the modality, from 1.",
        "property": "spacing, intensity, contrast, noise, sharpness or histogram.",
        "unit": "Unit of the two means.",
        "controls": _number("Mean over controls."),
        "patients": _number("Mean over patients."),
        "difference": _number("patients - controls in units of the pooled standard deviation (Hedges' g)."),
        **_shared("low high p_value"),
        "p_adjusted": _number("p-value adjusted over modalities, channels and properties."),
        "n_source": _number("Controls."),
        "n_target": _number("Patients."),
        **_shared("status"),
    },
)
DEFORMATION = _table(
    "deformation",
    "How far each bundle is from the healthy template.",
    {
        **_shared("participant_id bundle hemisphere side"),
        "v_norm_mm": _number("Mean norm of the displacement over the bundle's voxels.", "mm"),
        **_shared("percentile z"),
        "dice_before": _number("Dice with the template after rigid alignment."),
        "dice_after": _number("Dice with the template after SyN."),
        "jacobian_mean": _number("Mean Jacobian determinant over the bundle's voxels."),
        **_shared("status"),
        **_optional(
            {
                **_shared("range_status n_controls"),
                "v_norm_own_mm": _number(
                    "The same mean norm against the participant's own bundle in the baseline.", "mm"
                ),
                "dice_own_after": _number("Dice with the own bundle in the baseline after SyN."),
                "own_status": "Why that is given or not; unavailable where the baseline lacks the bundle or it cannot "
                "be used.",
                **_shared("cohort group"),
                **_percentiles("v_norm", "norm"),
                "jacobian_min": _number("Smallest Jacobian determinant; under 1 is contraction."),
                "jacobian_max": _number("Largest Jacobian determinant; above 1 is expansion."),
                "translation_mm": _number("Length of the rigid part's translation.", "mm"),
                "rotation_deg": _number("Angle of the rigid part's rotation.", "degree"),
            }
        ),
    },
)
DEFORMATION_PROFILES = _table(
    "deformation_profiles",
    "V-Norm along each bundle.",
    {
        **_shared("participant_id cohort group bundle hemisphere side"),
        "point": _number("Point of the template's skeleton, from 1 at the posterior, inferior or lateral end."),
        "v_norm_mm": _number("Mean norm of the displacement over the voxels nearest the point.", "mm"),
        "percentile": _number("Percentile in the healthy range at this point."),
        "z": _number("z-score in the healthy range at this point."),
        **_shared("status"),
        **_optional(_shared("range_status n_controls")),
    },
)
DEFORMATION_RELATION = _table(
    "deformation_relation",
    "Whether a network loses more, and fine-tuning helps less, where a bundle is deformed more.",
    {
        "model": "Name of the model; n/a where none is concerned.",
        "metric": "Name of the metric; n/a where none is concerned.",
        "quantity": "slope: drop a mm of V-Norm within bundles; slope_change: after less before fine-tuning; distance: "
        "rank correlation of V-Norm with the distance to the tumor.",
        **_optional({"measure": "template: V-Norm against the healthy template; own: against the own baseline."}),
        "value": _number("Point estimate."),
        **_shared("low high unit n_patients status"),
    },
)
SHELLS = _table(
    "shells",
    "Voxel-wise error rates by distance to the tumor.",
    {
        **_shared("model modality bundle"),
        "shell_low_mm": _number("Inner edge of the shell.", "mm"),
        "shell_high_mm": _number("Outer edge of the shell.", "mm"),
        "rate": "fn: missed share of the reference; fp: false share of the prediction.",
        "observed": _number("Rate in patients."),
        "baseline": _number("Rate of controls at the same places."),
        "excess": _number("observed - baseline."),
        **_shared("low high"),
        "n_patients": _number("Patients with voxels in the shell."),
        **_shared("status"),
    },
)
SECTIONS = _table(
    "sections",
    "Errors in sections along each bundle.",
    {
        **_shared("participant_id cohort group model modality bundle hemisphere side"),
        "section": _number("Section, from 1 at the posterior, inferior or lateral end."),
        "dice": _number("Dice in the section."),
        "false_negative_rate": _number("Missed share of the reference in the section."),
        "false_positive_rate": _number("False share of the prediction in the section."),
        "reference_ml": _number("Volume of the reference in the section.", "ml"),
        "prediction_ml": _number("Volume of the prediction in the section.", "ml"),
        "tumor_distance_mm": _number("Edge-to-edge distance from tumor mask to the section.", "mm"),
        **_shared("status"),
    },
)
SENSITIVITY = _table(
    "sensitivity",
    "The decomposition under other reasonable choices.",
    {
        **_shared("model modality metric"),
        "analysis": "What was changed.",
        "component": "Component.",
        "estimate": _number("Point estimate."),
        **_shared("low high"),
        "p_value": _number("Permutation p-value, where the analysis is a test."),
        **_shared("n_patients status"),
    },
)
VALIDATION = _table(
    "validation",
    "Whether the decomposition finds what was simulated.",
    {
        "cell": "What was simulated.",
        "n_patients": _number("Simulated patients."),
        "n_controls": _number("Simulated controls."),
        "decay_mm": _number("Simulated decay length.", "mm"),
        "spread": "How much participants and rows differ.",
        "property": "What is measured.",
        "value": _number("Measured value."),
        "low": _number("Lower end of the 95 % interval for the finite number of replicates."),
        "high": _number("Upper end of that interval."),
        "target": "Where the value should lie; n/a where it is only reported.",
        "met": "yes, no, or n/a.",
        "n_replicates": _number("Replicates behind the value."),
    },
)
