// lapse's alerts, recording rules and dashboards as a monitoring mixin. Nothing is written twice: these are the files of
// ../prometheus and ../grafana, with the selector and the runbooks of $._config put in. Vendor the folder above this one.
local isWord(c) = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == ':';

// The place of the first character that is none of a metric's name.
local nameEnd(text, at=0) = if at < std.length(text) && isWord(text[at]) then nameEnd(text, at + 1) else at;

// A query in which every series of lapse's exporter is selected by `selector` too. What rules record has no such label.
local selected(query, selector) =
  local parts = std.split(query, 'lapse_');
  local one(i) =
    local before = parts[i - 1];
    local end = nameEnd(parts[i]);
    local name = std.substr(parts[i], 0, end);
    local rest = std.substr(parts[i], end, std.length(parts[i]));
    local exported = before == '' || !isWord(before[std.length(before) - 1]);
    if !exported then 'lapse_' + parts[i]
    else if std.startsWith(rest, '{') then 'lapse_%s{%s, %s' % [name, selector, std.substr(rest, 1, std.length(rest))]
    else 'lapse_%s{%s}%s' % [name, selector, rest];
  if selector == '' then query
  else parts[0] + std.join('', [one(i) for i in std.range(1, std.length(parts) - 1)]);

// An object in which each of `keys` that is a text goes through `change`, at every depth.
local deep(value, keys, change) =
  if std.isArray(value) then [deep(one, keys, change) for one in value]
  else if std.isObject(value) then {
    [key]: if std.member(keys, key) && std.isString(value[key]) then change(value[key]) else deep(value[key], keys, change)
    for key in std.objectFields(value)
  }
  else value;

{
  _config+:: {
    // A selector that every series of lapse's exporter is asked for by, such as 'job="lapse"'.
    lapseSelector: '',
    // Where runbooks are, %s standing for the alert's name.
    runbookURLPattern: '{{ $externalLabels.lapse_runbooks }}/%s.md',
  },

  local config = $._config,
  local groups(text) = [
    group {
      rules: [
        rule { expr: selected(rule.expr, config.lapseSelector) } + (
          if std.objectHas(rule, 'alert')
          then { annotations+: { runbook_url: config.runbookURLPattern % rule.alert } }
          else {}
        )
        for rule in group.rules
      ],
    }
    for group in std.parseYaml(text).groups
  ],
  // Dashboards have a variable for the folder that runbooks are in, if the pattern is a folder's.
  local folder = std.substr(config.runbookURLPattern, 0, std.length(config.runbookURLPattern) - std.length('/%s.md')),
  local known = std.startsWith(config.runbookURLPattern, 'http') && config.runbookURLPattern == folder + '/%s.md',
  local placed(text) = if known then std.strReplace(text, 'https://example.org/lapse/deploy/runbooks', folder) else text,
  local board(value) = deep(
    value, ['expr', 'query', 'definition'], function(text) placed(selected(text, config.lapseSelector))
  ),

  prometheusAlerts+:: { groups+: groups(importstr '../prometheus/alerts.yaml') },
  prometheusRules+:: { groups+: groups(importstr '../prometheus/recording_rules.yaml') },
  grafanaDashboards+:: {
    'lapse-overview.json': board(import '../grafana/overview.json'),
    'lapse-policy.json': board(import '../grafana/policy.json'),
  },
}
