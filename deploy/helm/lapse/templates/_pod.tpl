{{- /* The spec of a pod. Takes root, component, command, and container: what else the container has. */ -}}
{{- define "lapse.pod" -}}
{{- $values := .root.Values -}}
{{- $worker := eq .component "worker" -}}
serviceAccountName: {{ include "lapse.serviceAccount" .root | quote }}
automountServiceAccountToken: {{ $values.serviceAccount.automount }}
enableServiceLinks: false
terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
{{- with $values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $worker }}
{{- with $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- $selector := dict "matchLabels" (include "lapse.selector" $ | fromYaml) }}
  {{- range . }}
  - {{- toYaml (hasKey . "labelSelector" | ternary . (set (deepCopy .) "labelSelector" $selector)) | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
securityContext:
  {{- if $values.openshift.enabled }}
  {{- toYaml (omit $values.podSecurityContext "runAsUser" "runAsGroup" "fsGroup") | nindent 2 }}
  {{- else }}
  {{- toYaml $values.podSecurityContext | nindent 2 }}
  {{- end }}
containers:
  - name: {{ .component }}
    image: {{ include "lapse.image" .root | quote }}
    imagePullPolicy: {{ $values.image.pullPolicy }}
    command:
      {{- toYaml .command | nindent 6 }}
    securityContext:
      {{- toYaml $values.securityContext | nindent 6 }}
    env:
      {{- include "lapse.env" . | nindent 6 }}
      {{- with include "lapse.beside" (dict "value" "extraEnv" "key" "name" "ours" (include "lapse.env" . | fromYamlArray) "theirs" $values.extraEnv) }}{{ nindent 6 . }}{{ end }}
    {{- $from := include "lapse.envFrom" . | fromYamlArray }}
    {{- with $from }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .container }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    volumeMounts:
      {{- include "lapse.mounts" . | nindent 6 }}
      {{- with include "lapse.beside" (dict "value" "extraVolumeMounts" "key" "mountPath" "ours" (include "lapse.mounts" . | fromYamlArray) "theirs" $values.extraVolumeMounts) }}{{ nindent 6 . }}{{ end }}
volumes:
  {{- include "lapse.volumes" . | nindent 2 }}
  {{- with include "lapse.beside" (dict "value" "extraVolumes" "key" "name" "ours" (include "lapse.volumes" . | fromYamlArray) "theirs" $values.extraVolumes) }}{{ nindent 2 . }}{{ end }}
{{- end -}}

{{- /* What a value adds to a list of the chart's, in which nothing may stand twice: the API server refuses it, or takes either. */ -}}
{{- define "lapse.beside" -}}
{{- range $one := .theirs -}}
{{- range $.ours -}}
{{- if eq (get . $.key) (get $one $.key) -}}
{{- fail (printf "%s: %s is the chart's own; the values say it otherwise, or give another" $.value (get . $.key)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .theirs -}}
{{ toYaml . }}
{{- end -}}
{{- end -}}

{{- /* True where a worker's state lies in memory. */ -}}
{{- define "lapse.transient" -}}
{{- if or .transient (not .root.Values.persistence.enabled) -}}
true
{{- end -}}
{{- end -}}

{{- define "lapse.env" -}}
{{- $values := .root.Values -}}
{{- $worker := eq .component "worker" -}}
- name: LAPSE_CONFIG
  value: /etc/lapse/{{ $values.policy.key }}
- name: LAPSE_RUNTIME_DIR
  value: /run/lapse
{{- /* The root is read-only, and Celery's processes share a file there. */}}
- name: TMPDIR
  value: /run/lapse
{{- if $worker }}
{{- /* A volume may be one that all may write to, as in memory and on a node's disk: lapse makes a folder of its own in it. */}}
- name: LAPSE_STATE_DIR
  value: /var/lib/lapse/state
{{- end }}
- name: LAPSE_REGISTRY__DEPLOYMENT
  value: {{ $values.deploymentName | default (include "lapse.deployment" .root) | quote }}
- name: LAPSE_REGISTRY__URL
  {{- if and $values.registry.url $values.registry.existingSecret (not $values.registry.passwordKey) }}
  {{- fail "registry.url stands beside registry.existingSecret: give one, or name a passwordKey of the Secret" }}
  {{- else if $values.registry.url }}
  value: {{ $values.registry.url | quote }}
  {{- else }}
  valueFrom:
    secretKeyRef:
      name: {{ required "registry.existingSecret: name the Secret that holds the registry's URL, or give registry.url" $values.registry.existingSecret | quote }}
      key: {{ $values.registry.urlKey | quote }}
  {{- end }}
{{- if $values.registry.passwordKey }}
- name: LAPSE_REGISTRY__PASSWORD_FILE
  value: /run/secrets/lapse/registry/{{ $values.registry.passwordKey }}
{{- end }}
{{- if $values.broker.existingSecret }}
- name: CELERY_BROKER_URL
  valueFrom:
    secretKeyRef:
      name: {{ $values.broker.existingSecret | quote }}
      key: {{ $values.broker.urlKey | quote }}
{{- end }}
{{- if $values.audit.file }}
- name: LAPSE_AUDIT__SINK
  value: file:/var/lib/lapse/state/audit.jsonl
{{- end }}
{{- if $values.audit.existingSecret }}
- name: LAPSE_AUDIT__KEY_FILE
  value: /run/secrets/lapse/audit/{{ $values.audit.key }}
{{- end }}
{{- if $values.ca.existingConfigMap }}
{{- if $values.ca.registry }}
- name: LAPSE_REGISTRY__TLS_CA
  value: /etc/lapse-ca/{{ $values.ca.key }}
{{- end }}
{{- if and $worker $values.ca.providers }}
- name: SSL_CERT_FILE
  value: /etc/lapse-ca/{{ $values.ca.key }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "lapse.envFrom" -}}
{{- $keys := .root.Values.providerKeys -}}
{{- if and (eq .component "worker") $keys.existingSecret (eq $keys.as "env") }}
- secretRef:
    name: {{ $keys.existingSecret | quote }}
{{- end }}
{{- with .root.Values.extraEnvFrom }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "lapse.mounts" -}}
{{- $values := .root.Values -}}
{{- $worker := eq .component "worker" -}}
- name: policy
  mountPath: /etc/lapse
  readOnly: true
- name: runtime
  mountPath: /run/lapse
{{- if $worker }}
- name: state
  mountPath: /var/lib/lapse
{{- end }}
{{- if $values.registry.passwordKey }}
- name: registry
  mountPath: /run/secrets/lapse/registry
  readOnly: true
{{- end }}
{{- if and $worker $values.providerKeys.existingSecret (eq $values.providerKeys.as "files") }}
- name: providers
  mountPath: /run/secrets/lapse/providers
  readOnly: true
{{- end }}
{{- if and $worker $values.audit.existingSecret }}
- name: audit
  mountPath: /run/secrets/lapse/audit
  readOnly: true
{{- end }}
{{- if $values.ca.existingConfigMap }}
- name: ca
  mountPath: /etc/lapse-ca
  readOnly: true
{{- end }}
{{- end -}}

{{- define "lapse.volumes" -}}
{{- $values := .root.Values -}}
{{- $worker := eq .component "worker" -}}
- name: policy
  configMap:
    name: {{ $values.policy.existingConfigMap | default (printf "%s-policy" (include "lapse.fullname" .root)) | quote }}
- name: runtime
  emptyDir:
    medium: Memory
    {{- /* A plan of a million ids takes 64 MB of a worker's while it is applied there. */}}
    sizeLimit: {{ ternary "128Mi" "16Mi" $worker }}
{{- if and $worker (include "lapse.transient" .) }}
- name: state
  emptyDir:
    medium: Memory
    sizeLimit: 64Mi
{{- end }}
{{- if $values.registry.passwordKey }}
- name: registry
  secret:
    secretName: {{ required "registry.existingSecret: name the Secret that holds registry.passwordKey" $values.registry.existingSecret | quote }}
    defaultMode: 0440
    items:
      - key: {{ $values.registry.passwordKey | quote }}
        path: {{ $values.registry.passwordKey | quote }}
{{- end }}
{{- if and $worker $values.providerKeys.existingSecret (eq $values.providerKeys.as "files") }}
- name: providers
  secret:
    secretName: {{ $values.providerKeys.existingSecret | quote }}
    defaultMode: 0440
{{- end }}
{{- if and $worker $values.audit.existingSecret }}
- name: audit
  secret:
    secretName: {{ $values.audit.existingSecret | quote }}
    defaultMode: 0440
    items:
      - key: {{ $values.audit.key | quote }}
        path: {{ $values.audit.key | quote }}
{{- end }}
{{- if $values.ca.existingConfigMap }}
- name: ca
  configMap:
    name: {{ $values.ca.existingConfigMap | quote }}
    items:
      - key: {{ $values.ca.key | quote }}
        path: {{ $values.ca.key | quote }}
{{- end }}
{{- end -}}

{{- /* The metadata of a pod. */ -}}
{{- define "lapse.podMetadata" -}}
{{- $values := .root.Values -}}
{{- $labels := $values.podLabels -}}
{{- if and $values.entra.enabled (or (has .component (list "worker" "doctor")) $values.entra.registry) -}}
{{- $labels = merge (dict "azure.workload.identity/use" "true") $labels -}}
{{- end -}}
labels:
  {{- include "lapse.labels" (merge (dict "extra" $labels) .) | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) $values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Startup and liveness ask whether the loop turns; readiness asks for a connection too. */ -}}
{{- define "lapse.probes" -}}
{{- $probes := .root.Values.probes -}}
startupProbe:
  exec:
    command: [lapse, health, --live, --{{ .component }}]
  periodSeconds: 2
  timeoutSeconds: {{ $probes.timeoutSeconds }}
  failureThreshold: {{ div $probes.startupSeconds 2 }}
livenessProbe:
  exec:
    command: [lapse, health, --live, --{{ .component }}]
  periodSeconds: {{ $probes.periodSeconds }}
  timeoutSeconds: {{ $probes.timeoutSeconds }}
  failureThreshold: {{ $probes.failureThreshold }}
readinessProbe:
  exec:
    command: [lapse, health, --{{ .component }}]
  periodSeconds: {{ $probes.periodSeconds }}
  timeoutSeconds: {{ $probes.timeoutSeconds }}
  failureThreshold: 1
{{- end -}}
