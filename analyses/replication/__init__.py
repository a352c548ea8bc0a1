"""Whether the published study's three findings hold on two cohorts."""
