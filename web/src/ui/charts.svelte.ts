/** What the chart under the run shows, and how far it is zoomed in. */

import { moved, type Range, scaled, whole } from '../core/axis.ts';
import { type Rows, ROWS, type Shade, SHADES } from '../core/heat.ts';
import { type Chart, CHARTS } from '../core/route.ts';
import { keep, kept } from './kept.ts';

const CLOSER = 0.5;
const FURTHER = 0.5; // of the steps shown

class Charts {
  shown = $state<Chart>(kept('chart', CHARTS, 'entropy'));
  rows = $state<Rows>(kept('heat-rows', ROWS, 'token'));
  shade = $state<Shade>(kept('heat-shade', SHADES, 'fed'));
  /** null: all steps. */
  zoom = $state.raw<Range | null>(null);

  show(chart: Chart): void {
    this.shown = chart;
    keep('chart', chart);
  }

  rowsBy(rows: Rows): void {
    this.rows = rows;
    keep('heat-rows', rows);
  }

  shadeBy(shade: Shade): void {
    this.shade = shade;
    keep('heat-shade', shade);
  }

  /** What the buttons and keys do, for a run of so many steps; the selected step stays in its place. */
  act(act: 'earlier' | 'later' | 'closer' | 'wider' | 'fit', length: number, over: boolean, selected: number | null): void {
    const all = whole(length, over);
    const shown = this.zoom ?? { from: 0, to: Math.max(1, length) };
    const seen = selected !== null && selected >= shown.from && selected < shown.to;
    const about = seen ? selected : (shown.from + shown.to - 1) / 2;
    if (act === 'fit') this.zoom = null;
    else if (act === 'closer') this.zoom = scaled(shown, all, CLOSER, about);
    else if (act === 'wider') this.zoom = this.zoom && scaled(shown, all, 1 / CLOSER, about);
    else if (this.zoom) this.zoom = moved(shown, all, act === 'later' ? FURTHER : -FURTHER);
  }
}

export const charts = new Charts();
