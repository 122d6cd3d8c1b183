{{- define "lapse.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimAll "-." -}}
{{- end -}}

{{- /*
At most 45 characters: with -worker, a hyphen and ten of a hash it is a label of a StatefulSet's pods, which has 63 at most. It is
the name of Services too: no dots, and a letter first.
*/ -}}
{{- define "lapse.fullname" -}}
{{- $name := printf "%s-%s" .Release.Name (include "lapse.name" .) -}}
{{- if .Values.fullnameOverride -}}
{{- $name = .Values.fullnameOverride -}}
{{- else if contains (include "lapse.name" .) .Release.Name -}}
{{- $name = .Release.Name -}}
{{- end -}}
{{- $name = $name | replace "." "-" | trunc 45 | trimSuffix "-" -}}
{{- if not (regexMatch "^[a-z]" $name) -}}
{{- fail (printf "fullnameOverride: %s begins with no letter, and is to be the name of Services; give another" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- /* Another in each namespace, so that alerts tell two releases of one name apart. */ -}}
{{- define "lapse.deployment" -}}
{{- printf "%s.%s" .Release.Namespace (include "lapse.fullname" .) | trunc 64 | trimAll "-." -}}
{{- end -}}

{{- define "lapse.selector" -}}
app.kubernetes.io/name: {{ include "lapse.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- /* Takes root, component or none, and extra: labels that this object alone has. */ -}}
{{- define "lapse.labels" -}}
{{- with merge (dict) (.extra | default dict) .root.Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
{{ include "lapse.selector" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | trimAll "-._" | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "lapse.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "lapse.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "lapse.image" -}}
{{- with .Values.image -}}
{{- .repository -}}:{{- .tag | default $.Chart.AppVersion -}}
{{- with .digest -}}@{{- . -}}{{- end -}}
{{- end -}}
{{- end -}}

{{- /* True where an object of the Prometheus Operator is to be rendered. */ -}}
{{- define "lapse.operator" -}}
{{- $known := .Capabilities.APIVersions.Has "monitoring.coreos.com/v1" -}}
{{- if or $known (eq .Values.monitoring.renderMode "alwaysRender") -}}
true
{{- else if eq .Values.monitoring.renderMode "failIfMissing" -}}
{{- fail "the cluster does not know monitoring.coreos.com/v1: install the Prometheus Operator, or set monitoring.renderMode to skipIfMissing or alwaysRender" -}}
{{- end -}}
{{- end -}}
