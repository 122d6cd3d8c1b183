{{- define "lapse.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- /* At most 50 characters: names of the components and of a StatefulSet's pods are made of it. */ -}}
{{- define "lapse.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "lapse.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "lapse.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "lapse.selector" -}}
app.kubernetes.io/name: {{ include "lapse.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
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
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | quote }}
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
