"""The tables that shiftkit publishes, one definition a table."""

from .status import Status
from .tables import Column, Table


def _text(description: str, required: bool = True) -> Column:
    return Column(description, required=required)


def _number(description: str, unit: str = "1", required: bool = True) -> Column:
    return Column(description, kind="number", unit=unit, required=required)


_PARTICIPANT = {"participant_id": _text("Participant, with the prefix sub-.")}
_MODEL = {"model": _text("Name of the model."), "modality": _text("Input of the model.")}
_BUNDLE = {
    "bundle": _text("Bundle name; 'all' on pooled rows."),
    "hemisphere": _text("left, right or none; 'all' on pooled rows."),
}
_STATUS = {"status": _text("Why a value is or is not given: one of " + ", ".join(Status) + ".")}
_INTERVAL = {"low": _number("Lower end of the interval."), "high": _number("Upper end of the interval.")}
_TESTED = {
    "p_value": _number("Permutation p-value, (b+1)/(B+1)."),
    "p_adjusted": _number("p-value adjusted over bundles."),
}

SCORES = Table(
    "scores",
    "One row a participant, bundle, hemisphere and metric.",
    {
        **_PARTICIPANT,
        "cohort": _text("Cohort the participant belongs to."),
        "group": _text("control, glioma or target_control."),
        **_MODEL,
        **_BUNDLE,
        "side": _text("ipsi, contra or bilateral, relative to the tumor; n/a for controls."),
        "metric": _text("Name of the metric."),
        "value": _number("Value of the metric; n/a where status says why."),
        "unit": _text("Unit of the value."),
        **_STATUS,
        "tumor_distance_mm": _number("Edge-to-edge distance from tumor mask to reference bundle mask.", "mm"),
        "session": _text("Session, n/a where there is one only.", False),
        "tolerance_mm": _number("Tolerance of nsd; n/a for other metrics.", "mm", False),
        "penalty_mm": _number("What a distance is for a missed bundle; n/a for other metrics.", "mm", False),
        "tumor_distance_mean_mm": _number("Mean distance to the tumor over the bundle's voxels.", "mm", False),
        **{
            f"tumor_distance_p{q:02}_mm": _number(
                f"{q}th percentile of that distance over the bundle's voxels.", "mm", False
            )
            for q in (5, 25, 50, 75, 95)
        },
        "tumor_core_distance_mm": _number("Edge-to-edge distance from the tumor core.", "mm", False),
        "tumor_overlap_ml": _number("Part of the reference bundle inside the tumor mask.", "ml", False),
        "tumor_volume_ml": _number("Volume of the tumor mask.", "ml", False),
        "tumor_side": _text("left, right or bilateral.", False),
        "age": _number("Age.", "years", False),
        "sex": _text("Sex.", False),
        "site": _text("Site.", False),
        "scanner": _text("Scanner.", False),
        "seen": _text("yes if the model was trained or tuned on this participant, else no.", False),
    },
)
DECOMPOSITION = Table(
    "decomposition",
    "The drop in performance of patients and its parts; positive means worse in patients.",
    {
        **_MODEL,
        **_BUNDLE,
        "metric": _text("Name of the metric."),
        "method": _text("regression, hemispheric or shell."),
        "component": _text("total, systematic, tumor, interaction, residual or raw."),
        "estimate": _number("Point estimate on the metric's own scale."),
        **_INTERVAL,
        **_TESTED,
        "n_patients": _number("Patients behind the estimate."),
        "n_controls": _number("Controls behind the estimate."),
        **_STATUS,
    },
)
RECOVERY = Table(
    "recovery",
    "What fine-tuning repairs of each component.",
    {
        "model": _text("Name of the fine-tuned model."),
        "strategy": _text("Transfer strategy."),
        "modality": _text("Input of the model."),
        "bundle": _text("Bundle name; 'all' on pooled rows."),
        "metric": _text("Name of the metric."),
        "component": _text("total, systematic, tumor or forgetting."),
        "before": _number("Component of the source model."),
        "after": _number("Component of the fine-tuned model."),
        "recovered": _number("(before - after) / before; n/a where the interval of before includes 0."),
        **_INTERVAL,
        **_STATUS,
    },
)
SHOTS = Table(
    "shots",
    "Out-of-fold Dice of every fine-tuning with so many patients.",
    {
        "strategy": _text("Transfer strategy; 'none' is the source model as it is."),
        "shots": _number("Patients trained on in each fold, those that choose the epoch included; 0 for 'none'."),
        "draw": _number("Which random choice of them, from 0."),
        **_BUNDLE,
        "dice": _number("Mean Dice over patients; on pooled rows of each patient's mean over bundles."),
        "n_patients": _number("Patients behind the mean."),
        **_STATUS,
    },
)
CURVES = Table(
    "learning_curves",
    "Dice against the number of patients trained on, with intervals over the patients that were scored.",
    {
        "strategy": _text("Transfer strategy; 'none' is the source model as it is."),
        "shots": _number("Patients trained on in each fold; 0 for 'none'."),
        "quantity": _text(
            "dice; gain_over_zero_shot: less the source model's; gain_over_scratch: less that of training from random "
            "weights on the same patients."
        ),
        "value": _number("Mean over patients, each averaged over bundles and draws."),
        **_INTERVAL,
        "n_patients": _number("Patients behind the mean."),
        "n_draws": _number("Random choices of training patients that were averaged."),
        **_STATUS,
    },
)
FEATURES = Table(
    "features",
    "Shift between feature distributions, by layer and region.",
    {
        **_MODEL,
        "layer": _text("Layer of the network."),
        **_BUNDLE,
        "contrast": _text("total, systematic or tumor."),
        "region": _text("reference, brain, or a tumor-distance shell in mm.", False),
        "statistic": _text("mmd2, energy, sliced_wasserstein, frechet, auc or proxy_a_distance."),
        "value": _number("Value of the statistic."),
        "by_chance": _number("Mean of the statistic over permutations: what there is without a shift.", "1", False),
        **_INTERVAL,
        **_TESTED,
        "n_source": _number("Participants on the source side."),
        "n_target": _number("Participants on the target side."),
        **_STATUS,
    },
)
DIRECTIONS = Table(
    "directions",
    "The channels that carry the systematic and the tumor contrast, all bundles together.",
    {
        **_MODEL,
        "layer": _text("Layer of the network."),
        "contrast": _text("systematic or tumor."),
        "channel": _number("Channel of the layer, from 1."),
        "difference": _number("Difference of means in units of the channel's spread."),
        "share": _number("Its part of the squared length of all channels' differences."),
        "p_adjusted": _number("p-value adjusted over the layer's channels."),
        **_STATUS,
    },
)
CKA = Table(
    "cka",
    "How much fine-tuning changed each layer, on the same participants.",
    {
        "source": _text("Name of the source model."),
        **_MODEL,
        "layer": _text("Layer of the network."),
        "cka": _number("Unbiased linear CKA of the two models' features; 1 is unchanged up to rotation and scale."),
        **_INTERVAL,
        "n": _number("Participants."),
        **_STATUS,
    },
)
FORESIGHT = Table(
    "foresight",
    "Feature shift of each patient and bundle, taken without labels, and the drop in performance.",
    {
        **_PARTICIPANT,
        **_MODEL,
        **_BUNDLE,
        "side": _text("ipsi, contra or bilateral, relative to the tumor."),
        "shift": _number("Mean over layers of the log Mahalanobis distance from the controls."),
        "observed": _number("Controls' mean less the patient's value."),
        "predicted": _number("That drop as predicted by a regression fitted to other patients."),
        **_STATUS,
    },
)
IMAGES = Table(
    "images",
    "What differs between the images themselves, more than 20 mm from the tumor.",
    {
        "modality": _text("Modality."),
        "channel": _text("Channel of the modality, from 1."),
        "property": _text("spacing, intensity, contrast, noise, sharpness or histogram."),
        "unit": _text("Unit of the two means."),
        "controls": _number("Mean over controls."),
        "patients": _number("Mean over patients."),
        "difference": _number("patients - controls in units of the pooled standard deviation (Hedges' g)."),
        **_INTERVAL,
        "p_value": _number("Permutation p-value, (b+1)/(B+1)."),
        "p_adjusted": _number("p-value adjusted over modalities, channels and properties."),
        "n_source": _number("Controls."),
        "n_target": _number("Patients."),
        **_STATUS,
    },
)
DEFORMATION = Table(
    "deformation",
    "How far each bundle is from the healthy template.",
    {
        **_PARTICIPANT,
        **_BUNDLE,
        "side": _text("ipsi, contra or bilateral, relative to the tumor; n/a for controls."),
        "v_norm_mm": _number("Mean norm of the displacement over the bundle's voxels.", "mm"),
        "percentile": _number("Percentile in the healthy range."),
        "z": _number("z-score in the healthy range."),
        "dice_before": _number("Dice with the template after rigid alignment."),
        "dice_after": _number("Dice with the template after SyN."),
        "jacobian_mean": _number("Mean Jacobian determinant over the bundle's voxels."),
        **_STATUS,
        "range_status": _text("Why percentile and z are given or not: constant where controls do not vary.", False),
        "n_controls": _number("Controls behind percentile and z.", required=False),
        "v_norm_own_mm": _number(
            "The same mean norm against the participant's own bundle in the baseline.", "mm", False
        ),
        "dice_own_after": _number("Dice with the own bundle in the baseline after SyN.", required=False),
        "own_status": _text(
            "Why that is given or not; unavailable where the baseline lacks the bundle or it cannot be used.", False
        ),
        "cohort": _text("Cohort the participant belongs to.", False),
        "group": _text("control, glioma or target_control.", False),
        **{
            f"v_norm_p{q:02}_mm": _number(f"{q}th percentile of that norm over the bundle's voxels.", "mm", False)
            for q in (5, 25, 50, 75, 95)
        },
        "jacobian_min": _number("Smallest Jacobian determinant; under 1 is contraction.", required=False),
        "jacobian_max": _number("Largest Jacobian determinant; above 1 is expansion.", required=False),
        "translation_mm": _number("Length of the rigid part's translation.", "mm", False),
        "rotation_deg": _number("Angle of the rigid part's rotation.", "degree", False),
    },
)
DEFORMATION_PROFILES = Table(
    "deformation_profiles",
    "V-Norm along each bundle.",
    {
        **_PARTICIPANT,
        "cohort": _text("Cohort the participant belongs to."),
        "group": _text("control, glioma or target_control."),
        **_BUNDLE,
        "side": _text("ipsi, contra or bilateral, relative to the tumor; n/a for controls."),
        "point": _number("Point of the template's skeleton, from 1 at the posterior, inferior or lateral end."),
        "v_norm_mm": _number("Mean norm of the displacement over the voxels nearest the point.", "mm"),
        "percentile": _number("Percentile in the healthy range at this point."),
        "z": _number("z-score in the healthy range at this point."),
        **_STATUS,
        "range_status": _text("Why percentile and z are given or not: constant where controls do not vary.", False),
        "n_controls": _number("Controls behind percentile and z.", required=False),
    },
)
IMAGE_DEFORMATION = Table(
    "image_deformation",
    "How far the T1w image at each bundle is from the healthy template, outside of the tumor.",
    {
        **_PARTICIPANT,
        "cohort": _text("Cohort the participant belongs to."),
        "group": _text("control, glioma or target_control."),
        "bundle": _text("Bundle name; 'all' for the whole brain."),
        "hemisphere": _text("left, right, n/a; 'all' for the whole brain."),
        "side": _text("ipsi, contra or bilateral, relative to the tumor; n/a for controls."),
        "v_norm_mm": _number("Mean norm of the displacement, after the affine part, outside of the tumor.", "mm"),
        "percentile": _number("Percentile in the healthy range."),
        "z": _number("z-score in the healthy range."),
        "range_status": _text("Why percentile and z are given or not: constant where controls do not vary."),
        "n_controls": _number("Controls behind percentile and z.", required=False),
        "seen_share": _number("Share of the bundle, or brain, that lies outside of the tumor."),
        "jacobian_mean": _number("Mean volume in the participant over that in the template, after the affine part."),
        "translation_mm": _number("Length of the affine part's translation.", "mm"),
        "rotation_deg": _number("Angle of the affine part's rotation.", "degree"),
        "size": _number("Volume of the brain over the template's, by the affine part."),
        **_STATUS,
    },
)
DEFORMATION_RELATION = Table(
    "deformation_relation",
    "Whether a network loses more, and fine-tuning helps less, where a bundle is deformed more.",
    {
        "model": _text("Name of the model; n/a where none is concerned."),
        "metric": _text("Name of the metric; n/a where none is concerned."),
        "quantity": _text(
            "slope: drop a mm of V-Norm within bundles; slope_change: after less before fine-tuning; distance: rank "
            "correlation of V-Norm with the distance to the tumor."
        ),
        "measure": _text("template: V-Norm against the healthy template; own: against the own baseline.", False),
        "value": _number("Point estimate."),
        **_INTERVAL,
        "unit": _text("Unit of the value."),
        "n_patients": _number("Patients behind the estimate."),
        **_STATUS,
    },
)
SHELLS = Table(
    "shells",
    "Voxel-wise error rates by distance to the tumor.",
    {
        **_MODEL,
        "bundle": _text("Bundle name; 'all' on pooled rows."),
        "shell_low_mm": _number("Inner edge of the shell.", "mm"),
        "shell_high_mm": _number("Outer edge of the shell.", "mm"),
        "rate": _text("fn: missed share of the reference; fp: false share of the prediction."),
        "observed": _number("Rate in patients."),
        "baseline": _number("Rate of controls at the same places."),
        "excess": _number("observed - baseline."),
        **_INTERVAL,
        "n_patients": _number("Patients with voxels in the shell."),
        **_STATUS,
    },
)
SECTIONS = Table(
    "sections",
    "Errors in sections along each bundle.",
    {
        **_PARTICIPANT,
        "cohort": _text("Cohort the participant belongs to."),
        "group": _text("control, glioma or target_control."),
        **_MODEL,
        **_BUNDLE,
        "side": _text("ipsi, contra or bilateral, relative to the tumor; n/a for controls."),
        "section": _number("Section, from 1 at the posterior, inferior or lateral end."),
        "dice": _number("Dice in the section."),
        "false_negative_rate": _number("Missed share of the reference in the section."),
        "false_positive_rate": _number("False share of the prediction in the section."),
        "reference_ml": _number("Volume of the reference in the section.", "ml"),
        "prediction_ml": _number("Volume of the prediction in the section.", "ml"),
        "tumor_distance_mm": _number("Edge-to-edge distance from tumor mask to the section.", "mm"),
        **_STATUS,
    },
)
SENSITIVITY = Table(
    "sensitivity",
    "The decomposition under other reasonable choices.",
    {
        **_MODEL,
        "metric": _text("Name of the metric."),
        "analysis": _text("What was changed."),
        "component": _text("Component."),
        "estimate": _number("Point estimate."),
        **_INTERVAL,
        "p_value": _number("Permutation p-value, where the analysis is a test."),
        "n_patients": _number("Patients behind the estimate."),
        **_STATUS,
    },
)
VALIDATION = Table(
    "validation",
    "Whether the decomposition finds what was simulated.",
    {
        "cell": _text("What was simulated."),
        "n_patients": _number("Simulated patients."),
        "n_controls": _number("Simulated controls."),
        "decay_mm": _number("Simulated decay length.", "mm"),
        "spread": _text("How much participants and rows differ."),
        "property": _text("What is measured."),
        "value": _number("Measured value."),
        "low": _number("Lower end of the 95 % interval for the finite number of replicates."),
        "high": _number("Upper end of that interval."),
        "target": _text("Where the value should lie; n/a where it is only reported."),
        "met": _text("yes, no, or n/a."),
        "n_replicates": _number("Replicates behind the value."),
    },
)
TABLES = {
    table.name: table
    for table in (
        SCORES,
        DECOMPOSITION,
        RECOVERY,
        SHOTS,
        CURVES,
        FEATURES,
        DIRECTIONS,
        CKA,
        FORESIGHT,
        IMAGES,
        DEFORMATION,
        DEFORMATION_PROFILES,
        DEFORMATION_RELATION,
        IMAGE_DEFORMATION,
        SHELLS,
        SECTIONS,
        SENSITIVITY,
        VALIDATION,
    )
}
