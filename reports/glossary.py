"""Terms of the reports, each explained in one line where it first stands on a page and in a list at the page's end."""

import re

from markupsafe import Markup, escape

from .naming import slug

TERMS = {
    "systematic": "Systematic part: what patients lose with the tumor's effect gone, measured on bundles far from it.",
    "tumor part": "Tumor part: what patients lose on top of the systematic part, near the tumor.",
    "tumor's part": "Tumor part: what patients lose on top of the systematic part, near the tumor.",
    "controls": "Controls: healthy participants whose images the model has not seen.",
    "interval": "Interval: in 95 of 100 studies like this one it would hold the true number, unless said otherwise.",
    "Dice": "Dice: twice the shared volume over the sum of both volumes; 1 is full agreement, 0 none.",
    "HD95": "HD95: distance in mm within which 95 % of one surface lies from the other; smaller is better.",
    "ASSD": "ASSD: mean distance between the two surfaces in mm; smaller is better.",
    "NSD": "NSD: share of both surfaces that lies within the tolerance of the other; 1 is full agreement.",
    "fine-tuning": "Fine-tuning: the model is trained further on some patients and tested on the others.",
    "bundles": "Bundle: a tract of white matter, such as AF, in one hemisphere.",
    "bundle": "Bundle: a tract of white matter, such as AF, in one hemisphere.",
    "rows": "Row: one bundle of one participant, with its score.",
    "reference mask": "Reference mask: the segmentation that counts as the truth.",
    "margin": "Margin: an effect smaller than this counts as none; it was set before the data were seen.",
    "exploratory": "Exploratory: an indication from few patients, not a conclusion.",
    "MNI152": "MNI152 space: coordinates of a standard brain in mm; x grows to the right, y to the front, z upward.",
    "false voxels": "False voxels: predicted, but not in the reference mask.",
    "Feature shift": "Feature shift: how far apart the network's inner responses to two groups of images lie.",
    "feature shift": "Feature shift: how far apart the network's inner responses to two groups of images lie.",
    "MMD²": "MMD²: distance between two groups of feature vectors; about 0 where they do not differ.",
    "decay length": "Decay length: distance over which the tumor's effect falls to about a third.",
    "digital phantom": "Digital phantom: images drawn by a program, with known effects.",
    "AF": "AF: arcuate fasciculus.",
    "FAT": "FAT: frontal aslant tract.",
    "IFOF": "IFOF: inferior fronto-occipital fasciculus.",
    "ILF": "ILF: inferior longitudinal fasciculus.",
    "PYT": "PYT: pyramidal tract.",
}
"""Each term with its explanation."""

_ANY = re.compile(rf"(?<![\w'-])({'|'.join(map(re.escape, sorted(TERMS, key=len, reverse=True)))})(?![\w-])")


class Glossary:
    """The terms that one page has explained so far.

    Examples
    --------
    >>> glossary = Glossary()
    >>> "Dice: twice" in glossary.explained("Dice falls."), glossary.explained("Dice again.")
    (True, Markup('Dice again.'))
    >>> glossary.used
    ['Dice: twice the shared volume over the sum of both volumes; 1 is full agreement, 0 none.']
    """

    def __init__(self) -> None:
        self.used: list[str] = []

    def explained(self, text: str) -> Markup:
        """A text with terms marked where the page has not explained them yet; everything else is escaped."""
        parts = _ANY.split(text)
        return Markup("").join(self._marked(part) if place % 2 else escape(part) for place, part in enumerate(parts))

    def _marked(self, term: str) -> Markup:
        told = TERMS[term]
        if told in self.used:
            return escape(term)
        self.used.append(told)
        name = f"term-{slug(told.partition(':')[0])}"
        return Markup('<span class="term" tabindex="0" aria-describedby="{}" data-told="{}">{}</span>').format(
            name, told, term
        )

    def listed(self) -> list[tuple[str, str, str]]:
        """Anchor, name and explanation of each term that was marked."""
        split = (told.partition(": ") for told in self.used)
        return [(f"term-{slug(name)}", name, meaning) for name, _, meaning in split]
