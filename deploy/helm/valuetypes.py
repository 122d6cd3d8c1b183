"""What values.yaml's keys may be, where their defaults do not say it."""

from typing import Any

OPEN: dict[str, Any] = {"type": "object"}
"""One of Kubernetes' own objects, or free names."""

NAME = {"type": "string", "maxLength": 253, "pattern": "^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$"}
KEY = {"type": "string", "maxLength": 253, "pattern": "^[-._a-zA-Z0-9]+$"}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
OURS = "^(app[.]kubernetes[.]io/(name|instance|component|version|managed-by)|helm[.]sh/chart)$"
LABELS = {**TEXTS, "patternProperties": {OURS: False}}
"""Labels beside those of the chart, by which it finds its pods."""

DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))*$"}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
QUANTITY = {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?([EPTGMK]i?|[mk])?$"}
LEVEL = {"type": "string", "enum": ["DEBUG", "INFO", "WARNING", "ERROR"]}
PLAIN_URL = "^((redis|rediss)([+](sentinel|cluster))?://([^:@/?]*@)?[^@?]+)?$"


def objects(**properties: Any) -> dict[str, Any]:
    """Return the type of a list of objects, of which these properties are required."""
    return {"type": "array", "items": {"type": "object", "required": sorted(properties), "properties": properties}}


def at_least(least: int) -> dict[str, Any]:
    """Return the type of a whole number."""
    return {"type": "integer", "minimum": least}


MONITOR: dict[str, dict[str, Any]] = {
    "labels": LABELS,
    "interval": DURATION,
    "scrapeTimeout": DURATION,
    "relabelings": objects(),
    "metricRelabelings": objects(),
}
TYPES: dict[str, dict[str, Any]] = {
    "image.repository": {"type": "string", "minLength": 1, "pattern": "^([^@\\s]*/)?[^@:/\\s]+$"},
    "image.tag": {"type": "string", "pattern": "^([a-zA-Z0-9_][-.a-zA-Z0-9_]{0,127})?$"},
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"type": "string", "enum": ["Always", "IfNotPresent", "Never"]},
    "imagePullSecrets": objects(name=NAME),
    "nameOverride": {"type": "string", "maxLength": 63, "pattern": "^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$"},
    "fullnameOverride": NAME,
    "commonLabels": LABELS,
    "deploymentName": {"type": "string", "maxLength": 64, "pattern": "^([A-Za-z0-9][-._A-Za-z0-9]*)?$"},
    "policy.existingConfigMap": NAME,
    "policy.key": KEY,
    "policy.content": {"type": "string", "minLength": 1},
    # A password in a URL would be a value: it belongs into a Secret.
    "registry.url": {"type": "string", "pattern": PLAIN_URL},
    "registry.existingSecret": NAME,
    "registry.urlKey": KEY,
    "registry.passwordKey": {"type": "string", "pattern": "^[-._a-zA-Z0-9]*$"},
    "broker.existingSecret": NAME,
    "broker.urlKey": KEY,
    "providerKeys.existingSecret": NAME,
    "providerKeys.as": {"type": "string", "enum": ["env", "files"]},
    "audit.existingSecret": NAME,
    "audit.key": KEY,
    "persistence.size": QUANTITY,
    "persistence.accessModes": {
        "type": "array",
        "minItems": 1,
        "items": {"type": "string", "enum": ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"]},
    },
    "persistence.annotations": TEXTS,
    "ca.existingConfigMap": NAME,
    "ca.key": KEY,
    "serviceAccount.name": NAME,
    "serviceAccount.annotations": TEXTS,
    "logLevel": LEVEL,
    "worker.concurrency": at_least(1),
    "exporter.port": PORT,
    "exporter.serviceAnnotations": TEXTS,
    "probes.periodSeconds": at_least(1),
    "probes.timeoutSeconds": at_least(1),
    "probes.failureThreshold": at_least(1),
    "probes.startupSeconds": at_least(2),
    "terminationGracePeriodSeconds": at_least(25),
    "podLabels": LABELS,
    "podAnnotations": TEXTS,
    "nodeSelector": TEXTS,
    "tolerations": objects(),
    "topologySpreadConstraints": objects(topologyKey={"type": "string"}),
    "extraEnv": objects(name={"type": "string"}),
    "extraEnvFrom": objects(),
    "extraVolumes": objects(name={"type": "string"}),
    "extraVolumeMounts": objects(name={"type": "string"}, mountPath={"type": "string"}),
    "extraObjects": {"type": "array", "items": {"type": ["object", "string"]}},
    "podDisruptionBudget.maxUnavailable": {
        "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[1-9][0-9]?%$"}]
    },
    "networkPolicy.redisPorts": {"type": "array", "minItems": 1, "items": PORT},
    "networkPolicy.redisTo": objects(),
    "networkPolicy.providerPorts": {"type": "array", "minItems": 1, "items": PORT},
    "networkPolicy.providerTo": objects(),
    "networkPolicy.metricsFrom": objects(),
    "networkPolicy.extraEgress": objects(),
    "monitoring.renderMode": {"type": "string", "enum": ["skipIfMissing", "failIfMissing", "alwaysRender"]},
    **{f"{kind}.{key}": type_ for kind in ("serviceMonitor", "podMonitor") for key, type_ in MONITOR.items()},
    "prometheusRule.labels": LABELS,
    "prometheusRule.runbookUrl": {"type": "string", "pattern": "^https?://.*[^/]$"},
    "prometheusRule.alertLabels": TEXTS,
    "prometheusRule.disabled": {"type": "array", "items": {"type": "string", "pattern": "^Lapse[A-Za-z]+$"}},
    "dashboards.labels": LABELS,
    "dashboards.annotations": TEXTS,
}
