"""Should you fine-tune? Dev chooses what to take; the tests say what it is worth, or cannot say."""

from collections.abc import Sequence

from .decision import FINE_TUNE, SWITCH, Verdict, decided  # noqa: F401
from .report import Report, compare
from .scores import Scores


def verdict(evidence: Report | Sequence[Scores], baseline: str = "base") -> Verdict:
    """Whether to keep the general model, to take another one untrained, or to fine-tune.

    Dev chooses one approach, the highest; what needs no training is preferred where it is within
    ``WORTH`` of it. The test splits then test that one alone, p corrected for their number (Holm).
    It is worth taking when it gains on some split and its interval lies below 0 on none. The
    general model is kept when it loses, or when it gains nowhere and every interval ends below
    ``WORTH`` (or holds 0, with queries enough to have seen that much). Else, and below ``FEWEST``
    clusters, the queries do not suffice for a verdict.

    Args:
        evidence: a report of ``compare`` or ``leaderboard``, or the scores themselves.
        baseline: the general model's approach or label; a report brings its own.
    """
    report = evidence if isinstance(evidence, Report) else compare(evidence, baseline=baseline)
    return decided(report.rows, report.baseline)
