"""The queries that the dashboards are made of.

Two exporters show the same counters, so each query takes the largest of what they say before anything else: instance
is aggregated away, and nothing is doubled. The deployment is kept: a healthy one hides nothing of another.
"""

from lapse.metrics.catalog import TABLE

VARIABLES = ("deployment", "provider", "kind", "policy")
LABELS = {one.name: ("deployment", *one.labels) for one in TABLE}
POLICY = "deployment, provider, kind, policy"


def chosen(metric: str, more: str = "") -> str:
    """Return a metric narrowed to what the variables choose."""
    by = [f'{name}=~"${name}"' for name in VARIABLES if name in LABELS[metric]]
    return f"{{{', '.join([*by, *([more] if more else [])])}}}"


def _one(metric: str, inner: str, *more: str) -> str:
    return f"max by ({', '.join((*LABELS[metric], *more))}) ({inner})"


def gauge(metric: str) -> str:
    """Return a gauge as one exporter shows it."""
    return _one(metric, metric + chosen(metric))


def rate(metric: str, more: str = "") -> str:
    """Return a counter's increase a second as one exporter shows it."""
    return _one(metric, f"rate({metric}{chosen(metric, more)}[$__rate_interval])")


def increase(metric: str, window: str, more: str = "") -> str:
    """Return a counter's increase over a window as one exporter shows it."""
    return _one(metric, f"increase({metric}{chosen(metric, more)}[{window}])")


def quantile(share: float, metric: str, by: str) -> str:
    """Return a quantile of a histogram, for each deployment and value of the labels ``by``."""
    buckets = _one(metric, f"rate({metric}_bucket{chosen(metric)}[$__rate_interval])", "le")
    return f"histogram_quantile({share}, sum by ({', '.join(filter(None, ('deployment', by, 'le')))}) ({buckets}))"


def within_a_day(by: str = "deployment") -> str:
    """Return the share of 30 days' settled ids that were gone within a day of being due."""
    metric = "lapse_deletion_lag_seconds"

    def settled(bound: str) -> str:
        wanted = chosen(metric, f'le="{bound}"')
        inner = f"max by ({POLICY}) (increase({metric}_bucket{wanted}[30d]))"
        return f"sum by ({by}) ({inner})"

    return f"{settled('86400.0')} / {settled('+Inf')}"


def worst(expression: str) -> str:
    """Return the largest value of each deployment."""
    return f"max by (deployment) ({expression})"


def total(expression: str) -> str:
    """Return the sum of each deployment."""
    return f"sum by (deployment) ({expression})"


def state() -> str:
    """Return what each policy does: 0 enforces, 1 observes, 2 is paused, 3 is halted."""
    halted = f"max by ({POLICY}) (lapse_halted{chosen('lapse_halted')})"
    return f"3 * {halted} or 2 * ({gauge('lapse_paused')} == 1) or 1 - {gauge('lapse_enforcing')}"


CONFIG_IN_USE = (
    f"min by (deployment) (lapse_config_last_reload_successful{chosen('lapse_config_last_reload_successful')})"
)
