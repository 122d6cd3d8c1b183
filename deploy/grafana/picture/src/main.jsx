// The first screen of the overview, drawn with Grafana's own components. The layout is ours, not a Grafana server's.
import { createTheme, dateTime, ThemeContext } from '@grafana/data';
import { BigValue, BigValueColorMode, BigValueGraphMode, BigValueTextMode, GlobalStyles, LegendDisplayMode, PanelChrome, Table, TimeSeries } from '@grafana/ui';
import { createRoot } from 'react-dom/client';

import board from '../../overview.json';
import { number, rows, series } from './frames.js';

const recorded = await (await fetch('./answers.json')).json();
const COLUMN = 1480 / 24;
const ROW = 34;
const GAP = 8;
const SCREEN = ['Oldest overdue', 'From due to gone', 'Deletions a minute', 'Due, and what would be deleted'];
const theme = createTheme({ colors: { mode: 'dark' } });
const range = { from: dateTime(recorded.from * 1000), to: dateTime(recorded.to * 1000) };
const timeRange = { ...range, raw: range };

function Body({ panel, width, height }) {
  const { answers } = recorded;
  if (panel.type === 'stat') {
    const coloured = panel.options.colorMode === 'background';
    return (
      <BigValue
        theme={theme}
        width={width}
        height={height}
        value={{ ...number(panel, answers, theme), title: undefined }}
        colorMode={coloured ? BigValueColorMode.Background : BigValueColorMode.None}
        graphMode={BigValueGraphMode.None}
        textMode={BigValueTextMode.Value}
        justifyMode="center"
      />
    );
  }
  if (panel.type === 'table') {
    return <Table data={rows(panel, answers, theme)} width={width} height={height} cellHeight="sm" />;
  }
  return (
    <TimeSeries
      frames={series(panel, answers, theme)}
      timeRange={timeRange}
      timeZone="utc"
      width={width}
      height={height}
      legend={{ displayMode: LegendDisplayMode.List, placement: 'bottom', showLegend: true, calcs: [] }}
    />
  );
}

function Panel({ panel, at }) {
  const { w, h } = panel.gridPos;
  const width = w * COLUMN - GAP;
  const height = at.h * ROW - GAP;
  return (
    <div style={{ position: 'absolute', left: at.x * COLUMN, top: at.y * ROW, width, height }}>
      <PanelChrome title={panel.title} width={width} height={height}>
        {(innerWidth, innerHeight) => <Body panel={panel} width={innerWidth} height={innerHeight} />}
      </PanelChrome>
    </div>
  );
}

const shown = (panel) => ['stat', 'table'].includes(panel.type) || SCREEN.includes(panel.title);
const first = board.panels.filter((panel) => panel.gridPos.y < 30 && shown(panel));
const placed = first.map((panel) => {
  const { x, y } = panel.gridPos;
  const h = panel.type === 'table' ? 6.9 : panel.type === 'stat' ? 3 : 6.6;
  const top = panel.type === 'stat' ? 0 : panel.type === 'table' ? 3 : 9.9 + (y > 14 ? 6.6 : 0);
  return { panel, at: { x, y: top, h } };
});
const height = Math.max(...placed.map(({ at }) => at.y + at.h)) * ROW;

createRoot(document.getElementById('root')).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <div
      id="board"
      style={{
        position: 'relative', width: 1480 - GAP, height: height - GAP, padding: 0, margin: 10,
        fontFamily: theme.typography.fontFamily, fontSize: 14, color: theme.colors.text.primary,
      }}
    >
      {placed.map(({ panel, at }) => <Panel key={panel.id} panel={panel} at={at} />)}
    </div>
  </ThemeContext.Provider>
);
document.body.style.cssText = `margin:0;background:${theme.colors.background.canvas}`;
