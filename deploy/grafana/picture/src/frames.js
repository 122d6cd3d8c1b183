// Prometheus' answers as Grafana's data frames, each field shown as the dashboard's JSON says.
import { FieldType, getDisplayProcessor, toDataFrame } from '@grafana/data';

const finite = (value) => (Number.isFinite(Number(value)) ? Number(value) : null);
const named = (template, labels) => template.replace(/\{\{(\w+)\}\}/g, (_, name) => labels[name] ?? '');

function shown(frame, config, theme, place = 0) {
  frame.fields.forEach((field) => {
    const override = config.overrides.find((one) => one.matcher.options === field.name);
    const more = Object.fromEntries((override?.properties ?? []).map(({ id, value }) => [id, value]));
    const { 'custom.cellOptions': cellOptions, ...rest } = more;
    if (field.type !== FieldType.time) {
      field.config = { ...config.defaults, ...rest, custom: { ...config.defaults.custom, cellOptions } };
      if (field.type === FieldType.string) field.config = { custom: config.defaults.custom };
    }
    field.state = { seriesIndex: place };
    field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
  });
  return frame;
}

const answered = (panel, target, answers) => answers[`${panel.id} ${target.refId}`] ?? [];

export function series(panel, answers, theme) {
  let place = -1;
  return panel.targets.flatMap((target) =>
    answered(panel, target, answers).map(({ metric, values }) => {
      const name = named(target.legendFormat, metric).trim();
      place += 1;
      return shown(
        toDataFrame({
          refId: target.refId,
          fields: [
            { name: 'Time', type: FieldType.time, values: values.map(([at]) => at * 1000) },
            { name, type: FieldType.number, values: values.map(([, value]) => finite(value)) },
          ],
        }),
        panel.fieldConfig,
        theme,
        place
      );
    })
  );
}

export function number(panel, answers, theme) {
  const [answer] = answered(panel, panel.targets[0], answers);
  const field = { name: '', type: FieldType.number, values: [], config: panel.fieldConfig.defaults };
  return getDisplayProcessor({ field, theme, timeZone: 'utc' })(answer ? Number(answer.value[1]) : NaN);
}

export function rows(panel, answers, theme) {
  const keys = ['policy', 'kind', 'provider'];
  const found = new Map();
  panel.targets.forEach((target) =>
    answered(panel, target, answers).forEach(({ metric, value }) => {
      const key = keys.map((name) => metric[name]).join(' ');
      found.set(key, { ...metric, ...found.get(key), [target.legendFormat]: Number(value[1]) });
    })
  );
  const list = [...found.values()].sort((a, b) => keys.map((k) => a[k]).join().localeCompare(keys.map((k) => b[k]).join()));
  const columns = [...keys, ...panel.targets.map((target) => target.legendFormat)];
  return shown(
    toDataFrame({
      fields: columns.map((name) => ({
        name,
        type: keys.includes(name) ? FieldType.string : FieldType.number,
        values: list.map((row) => row[name]),
      })),
    }),
    panel.fieldConfig,
    theme
  );
}
