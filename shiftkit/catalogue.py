"""The tables that shiftkit publishes: a paragraph a table, a line a column."""

import re
from collections.abc import Mapping
from dataclasses import replace

from .status import Status
from .tables import Column, Table

# Below a table's name its columns: name, "?" if it may be absent, unit if it is a number ("1" for none), meaning.
# A line of names alone takes them from the first paragraph; QQ stands for each of five percentiles.
_TABLES = """
shared: What means the same in several tables.
    participant_id: Participant, with the prefix sub-.
    cohort: Cohort the participant belongs to.
    group: control, glioma or target_control.
    side: ipsi, contra or bilateral, relative to the tumor; n/a for controls.
    model: Name of the model.
    modality: Input of the model.
    layer: Layer of the network.
    bundle: Bundle name; 'all' on pooled rows.
    hemisphere: left, right or none; 'all' on pooled rows.
    metric: Name of the metric.
    strategy: Transfer strategy; 'none' is the source model as it is.
    low [1]: Lower end of the interval.
    high [1]: Upper end of the interval.
    p_value [1]: Permutation p-value, (b+1)/(B+1).
    p_adjusted [1]: p-value adjusted over bundles.
    n_patients [1]: Patients behind the estimate.
    status: Why a value is or is not given: one of STATUS.
    percentile [1]: Percentile in the healthy range.
    z [1]: z-score in the healthy range.
    range_status: Why percentile and z are given or not: constant where controls do not vary.
    n_controls [1]: Controls behind percentile and z.
    unit: Unit of the value.

scores: One row a participant, bundle, hemisphere and metric.
    participant_id cohort group model modality bundle hemisphere side metric
    value [1]: Value of the metric; n/a where status says why.
    unit status
    tumor_distance_mm [mm]: Edge-to-edge distance from tumor mask to reference bundle mask.
    session?: Session, n/a where there is one only.
    tolerance_mm? [mm]: Tolerance of nsd; n/a for other metrics.
    penalty_mm? [mm]: What a distance is for a missed bundle; n/a for other metrics.
    tumor_distance_mean_mm? [mm]: Mean distance to the tumor over the bundle's voxels.
    tumor_distance_pQQ_mm? [mm]: QQth percentile of that distance over the bundle's voxels.
    tumor_core_distance_mm? [mm]: Edge-to-edge distance from the tumor core.
    tumor_overlap_ml? [ml]: Part of the reference bundle inside the tumor mask.
    tumor_volume_ml? [ml]: Volume of the tumor mask.
    tumor_side?: left, right or bilateral.
    age? [years]: Age.
    sex?: Sex.
    site?: Site.
    scanner?: Scanner.
    seen?: yes if the model was trained or tuned on this participant, else no.

decomposition: The drop in performance of patients and its parts; positive means worse in patients.
    model modality
    stratum: all, or COLUMN=value.
    bundle hemisphere metric
    method: anchored, the primary estimate; exponential, spline, hemispheric, shell, gee or mixed beside it.
    component: total, systematic, tumor, acquisition, disease, or raw, which is the total without covariates.
    estimate [1]: Point estimate on the metric's own scale, of distances as logs; n/a where a range is given.
    low high
    bound_low [1]: Lower end of what is possible, sampling error aside; n/a where there are no bounds.
    bound_high [1]: Upper end of what is possible.
    level [1]: Coverage of the interval; of bundles, for all at once.
    p_value [1]: Smallest α whose interval excludes 0; of a bundle, pointwise.
    p_adjusted [1]: The same of a bundle's interval, which holds for all bundles at once.
    n_patients
    n_controls [1]: Controls behind the estimate.
    status
    word: worse_near, better_near or not_shown of the tumor's part; shown, negative, negligible or not_shown of others;
        n/a of estimators beside the primary one.
    exploratory: yes with fewer than 20 patients.
    estimand?: same, or of which other quantity the row is an estimate.

agreement: How far other estimators are from the primary one, on the same rows.
    model modality metric
    method: exponential, spline, hemispheric, shell, gee or mixed.
    component: systematic or tumor.
    rows: all or ipsilesional.
    difference [1]: Other less primary; of a range, less its nearer bound, and 0 inside.
    low high
    p_value [1]: Of the paired difference.
    p_adjusted [1]: Adjusted over this table after Holm.
    n_patients status

entered: How many rows and participants entered the decomposition, and how many did not, by reason.
    group
    reason: entered, or the first reason against it.
    n_rows [1]: Rows of the source model's scores; 0 where nothing was scored.
    n_participants [1]: Participants with such rows.

recovery: What fine-tuning repairs of each component.
    model: Name of the fine-tuned model.
    strategy: Transfer strategy.
    modality bundle metric
    component: total, systematic, tumor or forgetting.
    before [1]: Component of the source model.
    after [1]: Component of the fine-tuned model.
    recovered [1]: (before - after) / before; n/a where its interval is unbounded or a side is a range.
    low high
    difference [1]: before - after.
    difference_low [1]: Lower end of its interval.
    difference_high [1]: Upper end of its interval.
    half_left? [1]: after - before / 2: above 0 less than half is repaired, below 0 more; no ratio, so that its interval
        is always bounded.
    half_left_low? [1]: Lower end of its interval.
    half_left_high? [1]: Upper end of its interval.
    n_patients status
    word: repaired, worsened or not_shown, of the fraction where it is given, else of the difference.

models: Source models side by side: each further one and the first, on the rows that both have.
    model: Name of the further model.
    compared_with: Name of the first model.
    modality metric
    component: controls and patients, whose mean score it is; total, systematic or tumor, parts of the drop.
    estimate [1]: Of the further model, on the metric's own scale, of distances as logs; n/a where a range is given.
    low high
    bound_low [1]: Lower end of what is possible, sampling error aside; n/a where there are no bounds.
    bound_high [1]: Upper end of what is possible.
    first [1]: The same of the first model.
    first_low [1]: Lower end of its interval.
    first_high [1]: Upper end of its interval.
    first_bound_low [1]: Lower end of what is possible.
    first_bound_high [1]: Upper end of what is possible.
    difference [1]: Further model less first; of parts of the drop positive means that it loses more.
    difference_low [1]: Lower end of its interval, which holds for all further models at once.
    difference_high [1]: Upper end of its interval.
    difference_bound_low [1]: Lower end of what is possible.
    difference_bound_high [1]: Upper end of what is possible.
    level [1]: Coverage of the intervals.
    p_value [1]: Smallest α whose interval of this difference alone excludes 0.
    p_adjusted [1]: The same of the interval that holds for all further models at once.
    word: larger, smaller or not_shown, of the difference.
    n_patients
    n_controls [1]: Controls behind the estimate.
    n_left_out [1]: Participants that one of both models has and that are not compared.
    exploratory: yes with fewer than 20 patients.
    status

shots: Out-of-fold Dice of every fine-tuning with so many patients.
    strategy
    shots [1]: Patients trained on in each fold, those that choose the epoch included; 0 for 'none'.
    draw [1]: Which random choice of them, from 0.
    bundle hemisphere
    dice [1]: Mean Dice over patients; on pooled rows of each patient's mean over bundles.
    n_patients [1]: Patients behind the mean.
    status

learning_curves: Dice against the number of patients trained on, with intervals over the patients that were scored.
    strategy
    shots [1]: Patients trained on in each fold; 0 for 'none'.
    quantity: dice; gain_over_zero_shot: less the source model's; gain_over_scratch: less that of training from random
        weights on the same patients.
    value [1]: Mean over patients, each averaged over bundles and draws.
    low high
    n_patients [1]: Patients behind the mean.
    n_draws [1]: Random choices of training patients that were averaged.
    status

features: Shift between feature distributions, by layer and region.
    model modality layer bundle hemisphere
    contrast: total, systematic or tumor.
    region?: reference, brain, or a tumor-distance shell in mm.
    statistic: mmd2, energy, sliced_wasserstein, frechet, auc or proxy_a_distance.
    value [1]: Value of the statistic.
    by_chance? [1]: Mean of the statistic over permutations: what there is without a shift.
    low high p_value p_adjusted
    n_source [1]: Participants on the source side.
    n_target [1]: Participants on the target side.
    status

directions: The channels that carry the systematic and the tumor contrast, all bundles together.
    model modality layer
    contrast: systematic or tumor.
    channel [1]: Channel of the layer, from 1.
    difference [1]: Difference of means in units of the channel's spread.
    share [1]: Its part of the squared length of all channels' differences.
    p_adjusted [1]: p-value adjusted over the layer's channels.
    status

cka: How much fine-tuning changed each layer, on the same participants.
    source: Name of the source model.
    model modality layer
    cka [1]: Unbiased linear CKA of the two models' features; 1 is unchanged up to rotation and scale.
    low high
    n [1]: Participants.
    status

foresight: Feature shift of each patient and bundle, taken without labels, and the drop in performance.
    participant_id model modality bundle hemisphere
    side: ipsi, contra or bilateral, relative to the tumor.
    shift [1]: Mean over layers of the log Mahalanobis distance from the controls.
    observed [1]: Controls' mean less the patient's value.
    predicted [1]: That drop as predicted by a regression fitted to other patients.
    status

images: What differs between the images themselves, more than 20 mm from the tumor.
    modality: Modality.
    channel: Channel of the modality, from 1.
    property: spacing, intensity, contrast, noise, sharpness or histogram.
    unit: Unit of the two means.
    controls [1]: Mean over controls.
    patients [1]: Mean over patients.
    difference [1]: patients - controls in units of the pooled standard deviation (Hedges' g).
    low high p_value
    p_adjusted [1]: p-value adjusted over modalities, channels and properties.
    n_source [1]: Controls.
    n_target [1]: Patients.
    status

deformation: How far each bundle is from the healthy template.
    participant_id bundle hemisphere side
    v_norm_mm [mm]: Mean norm of the displacement over the bundle's voxels.
    percentile z
    dice_before [1]: Dice with the template after rigid alignment.
    dice_after [1]: Dice with the template after SyN.
    jacobian_mean [1]: Mean Jacobian determinant over the bundle's voxels.
    status range_status? n_controls?
    v_norm_own_mm? [mm]: The same mean norm against the participant's own bundle in the baseline.
    dice_own_after? [1]: Dice with the own bundle in the baseline after SyN.
    own_status?: Why that is given or not; unavailable where the baseline lacks the bundle or it cannot be used.
    cohort? group?
    v_norm_pQQ_mm? [mm]: QQth percentile of that norm over the bundle's voxels.
    jacobian_min? [1]: Smallest Jacobian determinant; under 1 is contraction.
    jacobian_max? [1]: Largest Jacobian determinant; above 1 is expansion.
    translation_mm? [mm]: Length of the rigid part's translation.
    rotation_deg? [degree]: Angle of the rigid part's rotation.

deformation_profiles: V-Norm along each bundle.
    participant_id cohort group bundle hemisphere side
    point [1]: Point of the template's skeleton, from 1 at the posterior, inferior or lateral end.
    v_norm_mm [mm]: Mean norm of the displacement over the voxels nearest the point.
    percentile [1]: Percentile in the healthy range at this point.
    z [1]: z-score in the healthy range at this point.
    status range_status? n_controls?

deformation_relation: Whether a network loses more, and fine-tuning helps less, where a bundle is deformed more.
    model: Name of the model; n/a where none is concerned.
    metric: Name of the metric; n/a where none is concerned.
    quantity: slope: drop a mm of V-Norm within bundles; slope_change: after less before fine-tuning; distance: rank
        correlation of V-Norm with the distance to the tumor.
    measure?: template: V-Norm against the healthy template; own: against the own baseline.
    value [1]: Point estimate.
    low high unit n_patients status

shells: Voxel-wise error rates by distance to the tumor.
    model modality bundle
    shell_low_mm [mm]: Inner edge of the shell.
    shell_high_mm [mm]: Outer edge of the shell.
    rate: fn: missed share of the reference; fp: false share of the prediction.
    observed [1]: Rate in patients.
    baseline [1]: Rate of controls at the same places.
    excess [1]: observed - baseline.
    low high
    n_patients [1]: Patients with voxels in the shell.
    status

sections: Errors in sections along each bundle.
    participant_id cohort group model modality bundle hemisphere side
    section [1]: Section, from 1 at the posterior, inferior or lateral end.
    dice [1]: Dice in the section.
    false_negative_rate [1]: Missed share of the reference in the section.
    false_positive_rate [1]: False share of the prediction in the section.
    reference_ml [ml]: Volume of the reference in the section.
    prediction_ml [ml]: Volume of the prediction in the section.
    tumor_distance_mm [mm]: Edge-to-edge distance from tumor mask to the section.
    status

sensitivity: The decomposition under other reasonable choices.
    model modality metric
    analysis: What was changed.
    estimand: same, or what is estimated in place of the primary estimate's quantity.
    method: anchored, or permutation.
    component: Component.
    estimate [1]: Point estimate.
    low high
    bound_low [1]: Lower end of what is possible, sampling error aside.
    bound_high [1]: Upper end of what is possible.
    p_value [1]: Of the permutation test, or the smallest α whose interval excludes 0.
    n_patients status

plan: What to expect of a study of a size, and of variants of it.
    variant: What is changed.
    n_patients [1]: Imagined patients.
    n_controls [1]: Imagined controls.
    withheld [1]: Share of studies that give a total and no split.
    width_systematic [1]: Median width of the systematic part's interval, of studies that give a split.
    width_tumor [1]: Median width of the tumor's.
    power_systematic [1]: Share of studies whose interval of the systematic part lies above 0.
    power_tumor [1]: Share of studies whose interval of the tumor's part lies above 0.
    power_both [1]: Share of studies that show both.
    systematic [1]: Dice lost far from the tumor.
    tumor [1]: Dice lost on top in contact with it.
    n_replicates [1]: Imagined studies.

implants: What tumors take, measured with tumors implanted into unseen controls, beside the tumor's part from patients.
    model modality metric
    source: implants, the same controls with and without a tumor; patients, the primary estimate of the tumor's part.
    zone: all bundles, or those whose edge is so far from the tumor.
    zone_low_mm [mm]: Distance above which they lie; at 0 those in contact are among them.
    zone_high_mm [mm]: Distance up to which they lie; n/a without a limit.
    value [1]: Loss by the tumor on the metric's own scale, of distances as logs; positive is worse with it; n/a where a
        range is given.
    low high
    n [1]: Participants behind it.
    status

conditions: Mean scores by condition: which group, segmented by a network that was fine-tuned how.
    modality
    training: plain, or implants: the source network was also trained on controls with implanted tumors.
    group strategy bundle hemisphere metric
    value [1]: Mean over participants; pooled, the mean over bundles and hemispheres of these means, of those that both
        groups have.
    low high
    n_participants [1]: Participants behind it.
    status

contrasts: Differences between conditions, with tests over participants.
    modality
    training: plain, or implants.
    contrast: patients - controls, by the source network; strategy - none, less the source network; strategy - scratch,
        less training from random weights on the same patients.
    group: Whose scores; glioma where patients are held against controls.
    strategy bundle hemisphere metric
    value [1]: Mean difference, within bundle and hemisphere: of groups, each value less the bundle's mean in controls.
    low high
    effect_size [1]: Hedges' g; of paired differences in units of their own spread.
    p_value
    p_adjusted [1]: Adjusted after Holm: pooled rows over all of them, others over an input's rows.
    n_participants [1]: Participants behind it.
    status

replication: The published study's three findings on these cohorts, a row a criterion.
    finding [1]: 1: a network trained on healthy people loses in patients; 2: fine-tuning makes up for few patients and
        handles the systematic part; 3: it cannot handle what the tumor does.
    modality
    training: plain, or implants.
    strategy bundle metric
    answer: supported, not_supported or undecided, from all criteria of the finding.
    criterion: drop; systematic_repaired, beyond half of it; gain_over_scratch; tumor_left, beyond half of it. n/a where
        nothing could be estimated.
    value [1]: Above 0 it speaks for the finding.
    low high
    level [1]: Coverage of the interval; of bundles, adjusted after Bonferroni.
    n_patients
    word: What this criterion says: supported, not_supported or undecided.
    status

validation: Whether the decomposition finds what was simulated.
    cell: What was simulated.
    n_patients [1]: Simulated patients.
    n_controls [1]: Simulated controls.
    decay_mm [mm]: Simulated decay length.
    spread: How much participants and rows differ.
    property: What is measured.
    value [1]: Measured value.
    low [1]: Lower end of the 95 % interval for the finite number of replicates.
    high [1]: Upper end of that interval.
    target: Where the value should lie; n/a where it is only reported.
    met: yes, no, or n/a.
    n_replicates [1]: Replicates behind the value.
"""

_COLUMN = re.compile(r"(\w+)(\?)?(?: \[(\w+)\])?: (.*)")


def _columns(lines: list[str], shared: Mapping[str, Column]) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    for line in lines:
        if (match := _COLUMN.fullmatch(line)) is None:
            for name in line.split():
                bare = name.removesuffix("?")
                columns[bare] = replace(shared[bare], required=bare == name)
            continue
        name, absent, unit, meaning = match.groups()
        for q in (5, 25, 50, 75, 95) if "QQ" in name else (0,):
            description = meaning.replace("QQ", str(q)).replace("STATUS", ", ".join(Status))
            kind = "number" if unit else "text"
            columns[name.replace("QQ", f"{q:02}")] = Column(description, kind, unit or "", required=not absent)
    return columns


def _read(text: str) -> dict[str, Table]:
    shared: Mapping[str, Column] = {}
    tables: dict[str, Table] = {}
    # What is indented twice goes on with the line above.
    for paragraph in re.sub(r"\n {8}", " ", text).strip().split("\n\n"):
        head, *lines = paragraph.splitlines()
        name, description = head.split(": ", 1)
        columns = _columns([line.strip() for line in lines], shared)
        shared = shared or columns
        tables[name] = Table(name, description, columns)
    del tables["shared"]
    return tables


TABLES: dict[str, Table] = _read(_TABLES)
"""Every table by its name."""

SCORES = TABLES["scores"]
DECOMPOSITION = TABLES["decomposition"]
AGREEMENT = TABLES["agreement"]
ENTERED = TABLES["entered"]
RECOVERY = TABLES["recovery"]
MODELS = TABLES["models"]
SHOTS = TABLES["shots"]
CURVES = TABLES["learning_curves"]
FEATURES = TABLES["features"]
DIRECTIONS = TABLES["directions"]
CKA = TABLES["cka"]
FORESIGHT = TABLES["foresight"]
IMAGES = TABLES["images"]
DEFORMATION = TABLES["deformation"]
DEFORMATION_PROFILES = TABLES["deformation_profiles"]
DEFORMATION_RELATION = TABLES["deformation_relation"]
SHELLS = TABLES["shells"]
SECTIONS = TABLES["sections"]
SENSITIVITY = TABLES["sensitivity"]
PLAN = TABLES["plan"]
IMPLANTS = TABLES["implants"]
CONDITIONS = TABLES["conditions"]
CONTRASTS = TABLES["contrasts"]
REPLICATION = TABLES["replication"]
VALIDATION = TABLES["validation"]
