/** The charts as tables: every step with its numbers; candidates over the steps shown. */

import { type Range, whole } from '../core/axis.ts';
import type { Step } from '../core/events.ts';
import { three } from '../core/format.ts';
import { glyphs } from '../core/glyphs.ts';
import { Heat, type Rows, type Shade } from '../core/heat.ts';
import { rank, variation } from '../core/metrics.ts';
import { el } from './dom.ts';
import type { Follower } from './picture.ts';

const HEADS = ['step', 'kind', 'token', 'fed', 'believed', 'entropy', 'TV', 'rank', 'ms'];

export class StepTable implements Follower {
  readonly root = el('table', 'steps');
  private readonly body = el('tbody');

  constructor() {
    const head = el('thead');
    head.append(rowOf(HEADS.map((text) => header('col', text))));
    this.root.append(
      el('caption', 'sr', 'Every step: what was fed, what was believed, how unsure it was, how far both are apart'),
      head,
      this.body,
    );
  }

  append(steps: readonly Step[]): void {
    this.body.append(
      ...steps.map((step) => {
        const weight = step.fed.find(({ id }) => id === step.token.id)?.weight;
        const { probability, text } = step.token;
        const row = rowOf([
          el('td', '', String(step.step)),
          el('td', '', step.kind),
          el('td', 'name', glyphs(text)),
          el('td', '', weight === undefined ? '·' : three(weight)),
          el('td', '', probability === null ? '·' : three(probability)),
          el('td', '', three(step.entropy)),
          el('td', '', three(variation(step))),
          el('td', '', String(rank(step) ?? `>${step.believed.length}`)),
          el('td', '', step.t_ms.toFixed(1)),
        ]);
        row.className = step.kind;
        row.dataset['step'] = String(step.step);
        return row;
      }),
    );
  }

  clear(): void {
    this.body.replaceChildren();
  }
}

const WIDEST = 200; // steps; the rest is a zoom away
const PACE = 300; // ms between two drawings of a table that grows

export class HeatTable implements Follower {
  readonly root = el('div');
  private heat: Heat;
  private zoom: Range | null = null;
  private timer = 0;

  constructor(rows: Rows, shade: Shade) {
    this.heat = new Heat(rows, shade);
  }

  append(steps: readonly Step[]): void {
    this.heat.append(steps);
    this.soon();
  }

  clear(): void {
    this.heat = new Heat(this.heat.rowsAre, this.heat.shade);
    this.soon();
  }

  /** Shows these steps alone; null is all. */
  zoomTo(range: Range | null): void {
    this.zoom = range;
    this.soon();
  }

  private soon(): void {
    this.timer ||= window.setTimeout(() => {
      this.timer = 0;
      this.draw();
    }, PACE);
  }

  private draw(): void {
    const shown = this.zoom ?? whole(this.heat.length, true);
    const to = Math.min(shown.to, this.heat.length);
    const last = Math.min(to, shown.from + WIDEST);
    const steps = Array.from({ length: Math.max(0, last - shown.from) }, (_, at) => shown.from + at);
    const head = el('thead');
    head.append(rowOf([header('col', this.heat.rowsAre), ...steps.map((step) => stepped(header('col', String(step)), step))]));
    const body = el('tbody');
    for (const row of this.heat.rows(shown)) {
      const name = 'rank' in row ? String(row.rank) : glyphs(row.text);
      const cells = steps.map((step) => {
        const cell = this.heat.cell(row, step);
        const value = cell ? three(cell.value) : '·';
        return stepped(el('td', '', cell && 'rank' in row ? `${glyphs(cell.text)} ${value}` : value), step);
      });
      body.append(rowOf([header('row', name), ...cells]));
    }
    const what = this.heat.shade === 'fed' ? 'Weight fed' : 'Probability believed';
    const table = el('table', 'steps heat');
    table.append(el('caption', 'sr', `${what}, candidates by ${this.heat.rowsAre} in each step`), head, body);
    const left = to - last;
    this.root.replaceChildren(...(left > 0 ? [el('p', 'note small', `The first ${WIDEST} of the steps shown; zoom in for the other ${left}.`)] : []), table);
  }
}

function rowOf(cells: HTMLElement[]): HTMLTableRowElement {
  const row = el('tr');
  row.append(...cells);
  return row;
}

function header(scope: 'col' | 'row', text: string): HTMLTableCellElement {
  const cell = el('th', '', text);
  cell.scope = scope;
  return cell;
}

function stepped<T extends HTMLElement>(cell: T, step: number): T {
  cell.dataset['step'] = String(step);
  return cell;
}
