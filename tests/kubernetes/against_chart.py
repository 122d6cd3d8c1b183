"""helm and the API server's schemas on the chart: ``make test-deploy`` runs this, and fails where helm is missing."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubernetes.rendering import (
    CHART,
    HELM,
    NEWEST,
    OLDEST,
    SETS,
    Object,
    Refused,
    changed,
    check,
    chosen,
    helm,
    objects,
    of,
    pods,
    refusal,
    rendered,
)
from support import shown

LISTED = {"minimal", "existing", "sealed", "entra", "tls", "monitoring", "openshift", "everything"}
SECRETS = {"lapse-provider", "llm-keys", "lapse-audit"}
"""What workers alone may have, in the sets."""


def test_helm_is_the_one_that_is_meant() -> None:
    assert "v4.3.1" in helm("version", "--short").stdout, HELM
    assert LISTED == set(SETS)


@pytest.mark.parametrize("name", SETS)
def test_helm_finds_nothing_wrong(name: str) -> None:
    done = helm("lint", "--strict", "--quiet", CHART, "--values", SETS[name])
    assert (0, "") == (done.returncode, done.stdout + done.stderr)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("name", SETS)
def test_every_object_is_one_that_the_cluster_takes(name: str, version: str) -> None:
    found = of(name, version)
    for one in found:
        check(one, version)
    known = {(one["kind"], one["metadata"]["name"]) for one in found}
    assert len(known) == len(found), "two objects of one name"


def test_an_older_cluster_is_refused() -> None:
    done = helm("template", "prod", CHART, "--values", SETS["minimal"], "--kube-version", "1.28")
    assert "1.29.0" in done.stderr


@pytest.mark.parametrize("kind", sorted({one["kind"] for name in SETS for one in of(name)} | {"PodMonitor"}))
def test_a_broken_object_of_each_kind_is_found(kind: str) -> None:
    one = next(one for name in SETS for one in of(name) if one["kind"] == kind)
    check(one, NEWEST)
    inner = next(name for name in ("spec", "data", "metadata") if name in one)
    for broken in ({**one, "unheard": 1}, {**one, inner: 1}, {**one, "metadata": {"name": "a", "lables": {}}}):
        with pytest.raises(Refused):
            check(broken, NEWEST)
    with pytest.raises(Refused):
        check({**one, "kind": "Unheard"}, NEWEST)


def test_a_misspelt_property_deep_inside_is_found() -> None:
    for name, where in (("monitoring", "podMetricsEndpoints"), ("everything", "endpoints")):
        one = copy.deepcopy(next(one for one in of(name) if where in one.get("spec", {})))
        one["spec"][where][0]["intervall"] = "5s"
        with pytest.raises(Refused, match="intervall"):
            check(one, NEWEST)
    rule = copy.deepcopy(next(one for one in of("monitoring") if one["kind"] == "PrometheusRule"))
    rule["spec"]["groups"][0]["rules"][0]["alret"] = "x"
    with pytest.raises(Refused, match="alret"):
        check(rule, NEWEST)


@pytest.mark.parametrize("name", SETS)
def test_pods_have_no_rights(name: str) -> None:
    """What the restricted level of Pod Security asks for, and a root that cannot be written."""
    for _component, pod in pods(of(name)):
        assert True is pod["securityContext"]["runAsNonRoot"]
        assert {"type": "RuntimeDefault"} == pod["securityContext"]["seccompProfile"]
        assert False is pod["automountServiceAccountToken"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        (container,) = pod["containers"]
        rights = container["securityContext"]
        assert (False, True) == (rights["allowPrivilegeEscalation"], rights["readOnlyRootFilesystem"])
        assert {"drop": ["ALL"]} == rights["capabilities"]
        assert {"memory"} == set(container["resources"]["limits"]), "a limit of CPU stretches what is in flight"
        assert not any("hostPath" in volume for volume in pod["volumes"])
        user = pod["securityContext"].keys() & {"runAsUser", "runAsGroup", "fsGroup"}
        assert len(user) == (0 if name == "openshift" else 3)


@pytest.mark.parametrize("name", SETS)
def test_only_workers_have_the_keys_of_providers_and_of_the_audit(name: str) -> None:
    text = json.dumps({component: pod for component, pod in pods(of(name)) if component in {"beat", "exporter"}})
    assert [] == [secret for secret in SECRETS if secret in text]
    worker = json.dumps([pod for component, pod in pods(of(name)) if component == "worker"])
    given = [chosen(name).get(key, {}).get("existingSecret") for key in ("providerKeys", "audit")]
    assert all(secret in worker for secret in given if secret)


@pytest.mark.parametrize("name", SETS)
def test_secrets_are_mounted_for_the_group_alone(name: str) -> None:
    modes = [
        volume["secret"]["defaultMode"] for _, pod in pods(of(name)) for volume in pod["volumes"] if "secret" in volume
    ]
    assert {0o440} >= set(modes)
    assert bool(modes) == (name in {"existing", "sealed", "tls", "everything"})


@pytest.mark.parametrize("name", SETS)
def test_what_survives_lies_on_a_disk_and_what_a_probe_reads_in_memory(name: str) -> None:
    for one in of(name):
        labels = one["metadata"].get("labels", {})
        if "template" not in one.get("spec", {}):
            continue
        pod = one["spec"]["template"]["spec"]
        places = {env["name"]: env.get("value") for env in pod["containers"][0]["env"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert "Memory" == volumes[mounts[places["LAPSE_RUNTIME_DIR"]]]["emptyDir"]["medium"]
        assert "subPath" not in json.dumps(pod), "a file that is mounted by itself is never changed"
        assert mounts[str(Path(places["LAPSE_CONFIG"]).parent)] == "policy"
        assert "checksum" not in json.dumps(one["spec"]["template"]["metadata"])
        if labels["app.kubernetes.io/component"] == "worker":
            kept = {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])}
            assert bool(kept) == (name != "existing")
            assert not kept or mounts[str(Path(places["LAPSE_STATE_DIR"]).parent)] in kept
            assert ("StatefulSet" if kept else "Deployment") == one["kind"]
            assert 45 == pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", SETS)
def test_the_state_is_a_folder_of_lapse_s_own(name: str) -> None:
    """The kubelet lets everybody write to an emptyDir, as a node's disk is, and a worker refuses such a folder."""
    for component, pod in pods(of(name)):
        (container,) = pod["containers"]
        places = {env["name"]: env.get("value") for env in container["env"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        in_memory = "state" in {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
        assert places.get("LAPSE_STATE_DIR") == (f"{mounts['state']}/state" if "state" in mounts else None)
        assert in_memory == (component == "doctor" or (component == "worker" and name == "existing"))


def test_one_beat_is_replaced_and_never_doubled() -> None:
    (beat,) = [
        one for one in of("everything") if one["metadata"]["name"].endswith("-beat") and one["kind"] == "Deployment"
    ]
    assert (1, {"type": "Recreate"}) == (beat["spec"]["replicas"], beat["spec"]["strategy"])


def test_programs_and_probes_are_commands_of_lapse() -> None:
    for component, pod in pods(of("minimal")):
        (container,) = pod["containers"]
        asked = [container["command"]]
        asked += [
            container[probe]["exec"]["command"]
            for probe in container
            if "exec" in str(container[probe]) and "Probe" in probe
        ]
        for command in asked:
            shown.check([word for word in command if word != "-q"])
        if component in {"worker", "beat"}:
            live, ready = (container[f"{kind}Probe"]["exec"]["command"] for kind in ("liveness", "readiness"))
            assert (["lapse", "health", "--live", f"--{component}"], ["lapse", "health", f"--{component}"]) == (
                live,
                ready,
            )
            assert 10 == container["livenessProbe"]["timeoutSeconds"]


def test_celery_takes_the_options_of_the_workloads() -> None:
    for component, pod in pods(of("minimal")):
        if component in {"worker", "beat"}:
            command = [sys.executable, "-m", *pod["containers"][0]["command"], "--help"]
            environ = {
                "LAPSE_CONFIG": str(CHART.parents[2] / "config" / "retention.toml"),
                "REDIS_URL": "redis://h:1/0",
            }
            done = subprocess.run(
                command,
                env=environ | {"LAPSE_RUNTIME_DIR": "/nonexistent"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert 0 == done.returncode, done.stderr


def test_alerts_say_where_their_runbooks_are() -> None:
    (rule,) = [one for one in of("monitoring") if one["kind"] == "PrometheusRule"]
    alerts = [one for group in rule["spec"]["groups"] for one in group["rules"] if "alert" in one]
    assert {f"https://wiki.example.com/runbooks/{one['alert']}.md" for one in alerts} == {
        one["annotations"]["runbook_url"] for one in alerts
    }
    assert "externalLabels" not in json.dumps(rule)
    assert {"privacy"} == {one["labels"]["team"] for one in alerts}
    assert "LapseObserving" not in {one["alert"] for one in alerts}
    assert 3 == sum("record" in one for group in rule["spec"]["groups"] for one in group["rules"])


def test_dashboards_lead_to_the_same_runbooks() -> None:
    texts = [text for one in of("monitoring") if one["kind"] == "ConfigMap" for text in one["data"].values()]
    boards = [json.loads(text) for text in texts if text.startswith("{")]
    variables = [one for board in boards for one in board["templating"]["list"]]
    assert ["https://wiki.example.com/runbooks"] * 2 == [one["query"] for one in variables if one["name"] == "runbooks"]


@pytest.mark.parametrize("mode", ["skipIfMissing", "failIfMissing", "alwaysRender"])
def test_a_cluster_without_the_operator_is_met_as_the_values_say(mode: str) -> None:
    values = chosen("monitoring") | {"monitoring": {"renderMode": mode}}
    if mode == "failIfMissing":
        assert "monitoring.renderMode" in refusal(values)
        return
    kinds = {one["kind"] for one in objects(rendered(values))}
    assert (mode == "alwaysRender") == ({"PodMonitor", "PrometheusRule"} <= kinds)
    assert (mode == "skipIfMissing") == ("were left out" in rendered(values, notes=True))


def test_the_notes_name_three_commands_and_what_is_lost_without_a_volume() -> None:
    notes = rendered(chosen("minimal"), notes=True).partition("NOTES:")[2]
    commands = [line.strip() for line in notes.splitlines() if line.startswith("  ")]
    assert ["kubectl", "helm", "kubectl"] == [line.split()[0] for line in commands]
    assert "Without persistence" not in notes
    assert "Without persistence" in rendered(chosen("existing"), notes=True)


WRONG: list[tuple[str, Any, str]] = [
    ("image.repository", "", "/image/repository"),
    ("image.digest", "sha256:abc", "/image/digest"),
    ("image.tags", "1", "/image"),
    ("image.repository", "registry.example.com:5000/lapse:0.1.0", "/image/repository"),
    ("registry.url", "redis://user:password@host:6379/0", "/registry/url"),
    ("registry.url", "http://host", "/registry/url"),
    ("providerKeys.as", "values", "/providerKeys/as"),
    ("providerKeys.OPENAI_API_KEY", "sk-1", "/providerKeys"),
    ("worker.replicas", "three", "/worker/replicas"),
    ("worker.concurrency", 0, "/worker/concurrency"),
    ("exporter.port", 70000, "/exporter/port"),
    ("persistence.size", "much", "/persistence/size"),
    ("persistence.accessModes", ["ReadOnlyMany"], "/persistence/accessModes"),
    ("policy.existingConfigMap", "Not A Name", "/policy/existingConfigMap"),
    ("monitoring.renderMode", "maybe", "/monitoring/renderMode"),
    ("serviceMonitor.interval", "often", "/serviceMonitor/interval"),
    ("networkPolicy.redisPorts", [], "/networkPolicy/redisPorts"),
    ("terminationGracePeriodSeconds", 20, "/terminationGracePeriodSeconds"),
    ("extraEnv", [{"value": "x"}], "/extraEnv/0"),
    ("commonLabels", {"a": 1}, "/commonLabels/a"),
    ("podLabels", {"app.kubernetes.io/name": "x"}, "/podLabels"),
    ("unheardOf", 1, "unheardOf"),
]


@pytest.mark.parametrize(("key", "value", "path"), WRONG, ids=[f"{key}={value}" for key, value, _ in WRONG])
def test_a_wrong_value_is_refused_with_its_path(key: str, value: Any, path: str) -> None:
    said = refusal(changed(chosen("minimal"), tuple(key.split(".")), value))
    assert path in said, said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"registry": {"url": "redis://h/0", "existingSecret": "s"}}, "registry.url stands beside"),
        ({"registry": {}}, "registry.existingSecret"),
        ({"entra": {"enabled": True}}, "entra.clientId"),
        ({"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}, "enable one"),
        (
            {
                "prometheusRule": {"enabled": True, "disabled": ["LapseObservin"]},
                "monitoring": {"renderMode": "alwaysRender"},
            },
            "prometheusRule.disabled: there is no alert LapseObservin",
        ),
        ({"extraEnv": [{"name": "LAPSE_CONFIG", "value": "/x"}]}, "extraEnv: LAPSE_CONFIG is the chart's own"),
        ({"extraVolumes": [{"name": "policy", "emptyDir": {}}]}, "extraVolumes: policy is the chart's own"),
        ({"extraVolumeMounts": [{"name": "x", "mountPath": "/run/lapse"}]}, "extraVolumeMounts: /run/lapse is"),
        (
            {"registry": {"url": "rediss+cluster://u@[::1]:6379,h:7000"}, "networkPolicy": {"enabled": True}},
            "networkPolicy.redisPorts: the port of registry.url, 7000,",
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused_by_name(values: dict[str, Any], said: str) -> None:
    assert said in refusal(chosen("minimal") | values)


def test_helm_test_is_a_pod_like_those_of_workers() -> None:
    """Its labels and annotations are those of every pod, a policy lets it out, and its logs are there to be read."""
    found = of("everything")
    (doctor,) = [one for one in found if one["kind"] == "Pod"]
    told = doctor["metadata"]
    values = chosen("everything")
    assert values["podLabels"].items() <= told["labels"].items()
    assert values["podAnnotations"].items() <= told["annotations"].items()
    assert "before-hook-creation" == told["annotations"]["helm.sh/hook-delete-policy"]
    policies = {one["metadata"]["name"]: one["spec"] for one in found if one["kind"] == "NetworkPolicy"}
    chosen_by = {
        component: [name for name, policy in policies.items() if selects(policy["podSelector"], labels)]
        for component, labels in [("doctor", told["labels"]), *component_labels(found)]
    }
    assert {
        "doctor": ["prod-retention-worker"],
        **{name: [f"prod-retention-{name}"] for name in ("worker", "beat", "exporter")},
    } == chosen_by


def component_labels(found: tuple[Object, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    for one in found:
        if "template" in one.get("spec", {}):
            labels = one["spec"]["template"]["metadata"]["labels"]
            yield labels["app.kubernetes.io/component"], labels


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Return True if a selector of equal labels, and of labels that are one of some, takes a pod."""
    listed = selector.get("matchExpressions", [])
    assert all("In" == one["operator"] for one in listed)
    return selector["matchLabels"].items() <= labels.items() and all(
        labels[one["key"]] in one["values"] for one in listed
    )


def test_openshift_s_dns_is_reached_where_its_pods_listen() -> None:
    values = chosen("openshift") | {"networkPolicy": {"enabled": True}}
    for one in objects(rendered(values)):
        if one["kind"] == "NetworkPolicy":
            assert {(53, "UDP"), (53, "TCP"), (5353, "UDP"), (5353, "TCP")} == {
                (port["port"], port["protocol"]) for port in one["spec"]["egress"][0]["ports"]
            }


def test_a_constraint_with_a_selector_keeps_it_and_one_without_gets_that_of_workers() -> None:
    theirs = {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    given = [{**theirs, "labelSelector": {"matchLabels": {"a": "b"}}}, theirs]
    values = chosen("minimal") | {"topologySpreadConstraints": given}
    (spread,) = [pod["topologySpreadConstraints"] for name, pod in pods(objects(rendered(values))) if name == "worker"]
    ours = {"name": "lapse", "instance": "prod", "component": "worker"}
    assert [
        given[0],
        {
            **theirs,
            "labelSelector": {"matchLabels": {f"app.kubernetes.io/{key}": value for key, value in ours.items()}},
        },
    ] == spread


def test_two_namespaces_are_two_deployments_to_alerts() -> None:
    names = {
        env["value"]
        for _, pod in pods(of("minimal"))
        for env in pod["containers"][0]["env"]
        if env["name"] == "LAPSE_REGISTRY__DEPLOYMENT"
    }
    assert {"retention.prod-lapse"} == names


def test_the_defaults_are_valid_but_for_what_has_to_be_given() -> None:
    said = refusal(yaml.safe_load((CHART / "values.yaml").read_text()))
    assert {"/image/repository"} == {line.split("'")[1] for line in said.splitlines() if "at '" in line}
