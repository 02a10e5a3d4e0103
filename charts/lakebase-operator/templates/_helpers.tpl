{{/* Name of everything that belongs to this release. */}}
{{- define "lakebase-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the operator's pods; they never change. */}}
{{- define "lakebase-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of everything. */}}
{{- define "lakebase-operator.labels" -}}
{{ include "lakebase-operator.selectorLabels" . }}
app.kubernetes.io/part-of: lakebase-operator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "lakebase-operator.serviceAccountName" -}}
{{- required "serviceAccount.name: the operator needs a ServiceAccount" .Values.serviceAccount.name -}}
{{- end -}}

{{/* Image with its tag, or pinned by digest. */}}
{{- define "lakebase-operator.image" -}}
{{- with .Values.image -}}
{{- if .registry -}}{{ .registry }}/{{- end -}}
{{- .repository -}}
{{- if .digest -}}@{{ .digest }}{{- else -}}:{{ default $.Chart.AppVersion .tag }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether labelled Secrets are watched: "true" or "false". It takes the right to list them wherever objects are watched. */}}
{{- define "lakebase-operator.watchesSecrets" -}}
{{- and .Values.secrets.watch (eq .Values.secrets.scope "cluster") -}}
{{- end -}}

{{/* The operator's ServiceAccount as the subject of a binding. */}}
{{- define "lakebase-operator.subjects" -}}
subjects:
  - kind: ServiceAccount
    name: {{ include "lakebase-operator.serviceAccountName" . }}
    namespace: {{ .Release.Namespace }}
{{- end -}}

{{/*
Binds a ClusterRole (.role) to the operator: in the namespaces (.namespaces), or everywhere when there are none.
*/}}
{{- define "lakebase-operator.binding" -}}
{{- $role := .role -}}
{{- $root := .root -}}
{{- if .namespaces -}}
{{- range $namespace := .namespaces }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $role }}
  namespace: {{ $namespace }}
  labels:
    {{- include "lakebase-operator.labels" $root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $role }}
{{ include "lakebase-operator.subjects" $root }}
{{- end }}
{{- else }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $role }}
  labels:
    {{- include "lakebase-operator.labels" $root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $role }}
{{ include "lakebase-operator.subjects" $root }}
{{- end }}
{{- end -}}
